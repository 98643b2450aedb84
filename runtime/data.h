/* data.h: data sets: files of several formats, the sources that rows are read from, and the order
 * in which they are.
 *
 * A file is opened once, whatever its format, and says what arrays it holds; a source is one array
 * of a file, checked against an input of the model.  Plain files are mapped: they may be larger
 * than memory.  Rules of errors and sizes: rt.h.
 */
#ifndef RUNTIME_DATA_H
#define RUNTIME_DATA_H

#include "runtime/rt.h"

/* ---- datafile.c: files --------------------------------------------------------------------- */

typedef struct mp_array { /* what a file says of an array in it */
  const char *type;       /* "u8", "f64"; NULL: numbers and names as text, of any type */
  int32_t dtype;          /* -1: no model has such a type */
  uint32_t size;          /* bytes of an element */
  bool big_endian;
  int32_t ndim;
  int64_t dims[MP_MAX_RANK];
  uint64_t begin, bytes; /* in the file */
} mp_array;

typedef struct mp_file mp_file;

typedef struct mp_format {
  const char *name;            /* "NPY" */
  const char *const *suffixes; /* NULL at the end */
  bool (*is)(const uint8_t *at, uint64_t size);
  int (*read)(mp_file *f, mp_error *err); /* checks its header, fills in what it names */
} mp_format;

typedef struct mp_column { /* of a CSV file */
  char *name;
} mp_column;

struct mp_file {
  const char *path; /* borrowed */
  const mp_format *format;
  const uint8_t *at; /* all of it; of a compressed one the data behind the header */
  uint64_t size;
  void *map, *heap; /* whichever it is in */
  bool one;         /* it holds one array, which has no name: */
  mp_array array;
  mp_st st;           /* safetensors: its header */
  mp_column *columns; /* CSV */
  uint32_t n_columns;
  uint64_t body; /* CSV: where the first row begins */
};

extern const mp_format mp_format_idx, mp_format_npy, mp_format_csv, mp_format_safetensors,
    mp_format_raw;

int mp_file_open(mp_file *f, const char *path, mp_error *err);
bool mp_file_has(const mp_file *f, const char *name);   /* an array of this name */
const char *mp_file_name(const mp_file *f, uint32_t i); /* of its arrays; NULL behind the last */
void mp_file_close(mp_file *f);

/* ---- idx.c, npy.c; datafile.c
 * -------------------------------------------------------------------------- */

enum { MP_IDX_HEADER = 4 + 4 * 255 }; /* no header is longer */

int mp_idx_parse(mp_array *a, const uint8_t *head, size_t have, const char *path, mp_error *err);
int mp_array_bytes(mp_array *a, const char *path, mp_error *err); /* from dims and size */
int mp_array_length(const mp_array *a, uint64_t found, const char *path, mp_error *err);

/* ---- data.c: sources ----------------------------------------------------------------------- */

typedef struct mp_names { /* of the categories of a CSV column: ascending, each once */
  char **at;
  uint32_t len;
} mp_names;

typedef struct mp_source {
  const uint8_t *at; /* row i begins at i · stride */
  int64_t rows;
  uint64_t row_bytes, stride; /* windows share an element, so their stride is shorter */
  uint32_t swap;              /* size of big-endian elements to turn round while copying; 1: none */
  void *heap;                 /* of a CSV: its column as numbers */
  mp_names names;
} mp_source;

/* `like`: the source of the training data, whose names number the categories of this one; NULL:
 * this is the training data. */
int mp_source_open(mp_source *s, const mp_file *f, const mp_source_desc *d, const mp_tensor *want,
                   const mp_source *like, mp_error *err);
void mp_source_row(const mp_source *s, int64_t row, void *out);
void mp_source_close(mp_source *s);

/* ---- csv.c --------------------------------------------------------------------------------- */

/* The column as `dtype`, one number a row, malloc'ed. */
int mp_csv_column(mp_source *s, const mp_file *f, const mp_source_desc *d, int32_t dtype,
                  const mp_source *like, mp_error *err);
void mp_csv_close(mp_file *f);

/* ---- order.c: which row is read when ------------------------------------------------------- */

typedef struct mp_part {    /* of the rows of a data set: all, what trains or what is held out */
  int64_t all, first, rows; /* rows first … first + rows - 1 of `all` */
  bool random;              /* of a fixed permutation of all */
  int64_t lanes;            /* > 0: row i continues row i - lanes; rows is a multiple of it */
} mp_part;

/* held_out: the part for eval. */
mp_part mp_part_split(int64_t all, mp_split_kind split, double fraction, bool held_out);
void mp_part_make_lanes(mp_part *p, int64_t lanes);
int64_t mp_part_row(const mp_part *p, int64_t position); /* of the data set */

#endif
