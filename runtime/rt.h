/* rt.h: what the files of the runtime library share; nothing of it is public.
 *
 * Rules of the folder: no globals but constant tables; no printing, no exit; every function that
 * can fail returns an mp_status (or NULL/false) and leaves one sentence in an mp_error; every size
 * that came from a file is checked with mp_mul/mp_add before it is believed.
 */
#ifndef RUNTIME_RT_H
#define RUNTIME_RT_H

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "runtime/model.h"

#define MP_LEN(table) (sizeof(table) / sizeof *(table))

/* ---- text.c: errors, growing text, near names ---------------------------------------------- */

int mp_fail(mp_error *err, int status, const char *fmt, ...)
    __attribute__((format(printf, 3, 4))); /* returns status */

typedef struct mp_text { /* `failed` sticks: check it once, at the end */
  char *at;
  size_t len, cap;
  bool failed;
} mp_text;

void mp_text_add(mp_text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void mp_text_bytes(mp_text *t, const void *bytes, size_t n);
void mp_text_free(mp_text *t);

bool mp_mul(uint64_t a, uint64_t b, uint64_t *out); /* false: does not fit */
bool mp_add(uint64_t a, uint64_t b, uint64_t *out);

typedef struct mp_near { /* the candidate nearest to `name`, if any is near enough to suggest */
  const char *name, *best;
  size_t distance;
} mp_near;

mp_near mp_near_to(const char *name);
void mp_near_try(mp_near *n, const char *candidate);
const char *mp_near_text(const mp_near *n, char *out,
                         size_t size); /* "" or ", did you mean 'x'?" */

/* ---- tensor.c: types, shapes, views -------------------------------------------------------- */

typedef struct mp_type {
  const char *name;        /* as the language writes it */
  const char *safetensors; /* as a file's header writes it */
  uint8_t size;            /* bytes */
  uint8_t code, bits;      /* DLPack */
} mp_type;

const mp_type *mp_type_of(int32_t dtype);
uint64_t mp_tensor_bytes(const mp_tensor *t); /* of a model's own tensor: known to fit */
uint64_t mp_row_bytes(const mp_tensor *t);    /* of one row of an input */
uint64_t mp_input_bytes(const mp_tensor *t, int64_t rows); /* that a run of `rows` reads */
char *mp_dims_text(const int64_t *dims, int32_t ndim, char *out, size_t size); /* "[10, 784]" */
char *mp_tensor_text(const mp_tensor *t, char *out, size_t size);              /* "f32[10, 784]" */
void mp_view_of(mp_view *v, const mp_tensor *t, void *data);
uint32_t mp_f32_of_f16(uint16_t half);  /* as bits; exact */
float mp_float_at(int32_t dtype, const void *data, uint64_t i); /* of f32, bf16 or f16; exact */
uint16_t mp_bf16_of_f32(uint32_t bits); /* to nearest even; subnormals to zero */
uint16_t mp_f16_of_f32(uint32_t bits);  /* to nearest even */
bool mp_is_low(int32_t dtype);          /* bf16 or f16 */
void mp_narrow_f32(int32_t dtype, const void *f32, void *low);   /* one element to such a type */
void mp_flush_f32(void *data, uint64_t bytes);                   /* subnormals to zero, sign kept */
void mp_clean_values(int32_t dtype, void *data, uint64_t bytes); /* what an entry may rely on */

/* ---- memory.c ------------------------------------------------------------------------------ */

typedef struct mp_memory {
  void *(*alloc)(void *user, size_t bytes, size_t align);
  void (*free)(void *user, void *p);
  void *user;
} mp_memory;

mp_memory mp_memory_of(const mp_options *o);
void *mp_alloc(const mp_memory *m, uint64_t bytes); /* zeroed, aligned to 64; NULL: none */
void mp_free(const mp_memory *m, void *p);

/* ---- cpu.c: all that depends on the machine ------------------------------------------------ */

const char *mp_cpu_lacks(const char *const *features); /* the first it lacks; NULL: none */
bool mp_cpu_dot_pays(void);                            /* vdpbf16ps beats two fmas here */
/* out = acc, then the product of the upper halves added, then that of the lower ones: as the
 * processor's instruction does it. */
enum { MP_DOT_LANES = 16 };
typedef void mp_dot_fn(const uint32_t *x, const uint32_t *y, const float *acc, float *out);
mp_dot_fn mp_cpu_dot;
int mp_cpu_count(void); /* cores this process may use */
void mp_cpu_relax(void);
uint64_t mp_float_enter(void); /* round to nearest, subnormals are zero; returns the old mode */
void mp_float_leave(uint64_t old);

/* ---- team.c -------------------------------------------------------------------------------- */

typedef void mp_job_fn(void *user, int32_t tid, int32_t threads);

mp_team *mp_team_new(const mp_memory *m, int threads, mp_error *err);
void mp_team_run(mp_team *t, mp_job_fn *job,
                 void *user); /* every thread runs it; returns after all */
int mp_team_size(const mp_team *t);
void mp_team_free(const mp_memory *m, mp_team *t);

/* ---- level.c ------------------------------------------------------------------------------- */

/* The best of the model's levels for this CPU, or the one that is called `cpu`. */
int mp_choose_level(const mp_model *m, const char *cpu, const mp_level **out, mp_error *err);
bool mp_dot_agrees(mp_dot_fn *dot); /* with the chain of strict numerics, on witnesses */

/* ---- context.c ----------------------------------------------------------------------------- */

typedef struct mp_binding {
  const void *data;
  size_t bytes;
} mp_binding;

typedef struct mp_cursor { /* where the training program's loader stands; saved with the state */
  int64_t epoch, row;      /* next row to read is the row-th of the epoch's order */
  int64_t data_rows;       /* of the data set that this is a place in; 0: none yet */
  int64_t total_steps;     /* length of the run; 0: not decided */
} mp_cursor;

typedef struct mp_entry_memory { /* of one entry in one context */
  mp_binding *inputs;            /* [n_inputs] */
  void **outputs;                /* [n_outputs], copies: the arena is shared with other entries */
  double *totals;                /* [n_outputs] of sums and weights since the last new total */
  uint64_t batches;              /* run since then */
  bool ran;
} mp_entry_memory;

typedef struct mp_finding mp_finding;

struct mp_ctx {
  const mp_model *model;
  const mp_level *level; /* whose code runs */
  mp_memory memory;
  void (*log)(void *user, const char *line);
  mp_team *team;
  char *state, *arena, *scratch;
  uint64_t scratch_stride;
  mp_entry_memory *entries;
  double *hypers; /* overrides; NaN: the desc's own value or schedule */
  uint64_t seed;
  mp_cursor cursor;
  bool other_policy;            /* a checkpoint of another precision policy was loaded whole */
  bool ready;                   /* init or load has happened */
  void **joined;                /* of each state: what get showed of a split one, or NULL */
  uint8_t *missing;             /* of each state: has no initializer and was not loaded yet */
  char *counters;               /* as the last step found them; as many bytes behind that */
  mp_finding *findings;         /* of each site of a step */
  uint32_t skipped;             /* the step that the last call ran, if it did not commit, */
  int64_t skipped_rows;         /* and its rows; 0: it was no such call */
  uint32_t half;                /* STEP.grads that the last call ran, or that one's STEP.apply */
  int64_t half_rows;            /* did not commit, and its rows; 0: neither */
  const mp_output_desc *poison; /* the update that became non-finite: no more steps, no saving */
  const mp_site *poisoned;      /* what of it was first, where that is known */
  atomic_bool cancelled;
  mp_error error;
};

void mp_note(const mp_ctx *ctx, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int mp_find_entry(const mp_desc *d, mp_entry_kind kind); /* index, or -1 */
/* The one of that kind that belongs to the step which `entry` belongs to; or -1. */
int mp_find_of_step(const mp_desc *d, uint32_t entry, mp_entry_kind kind);
void mp_forget_run(mp_ctx *ctx); /* nothing is as the last run found it: it cannot run again */
void mp_derive(mp_ctx *ctx);     /* rebuilds the derived copies from their masters */

/* ---- run.c: bind, run, output -------------------------------------------------------------- */

int mp_check_poison(mp_ctx *ctx); /* MP_E_NONFINITE, with the error that says which update it was */
/* Inputs are in the arena already; replay: NULL, or what looks at each kernel's results. */
void mp_call_entry(mp_ctx *ctx, uint32_t entry, int64_t rows, mp_replay *replay);
/* What is bound to the inputs of `from`, which has the same. */
void mp_place_inputs(mp_ctx *ctx, uint32_t entry, uint32_t from, int64_t rows);

/* ---- origin.c: where a skipped step was first not finite, and is it in f32 ------------------- */

/* Runs the entry and looks at each kernel's results: MP_E_NONFINITE, with the first of them that is
 * not finite though nothing makes it lawful. */
int mp_call_checked(mp_ctx *ctx, uint32_t entry, int64_t rows);
void mp_origin_text(const mp_origin *o, mp_text *t); /* "m.mp:12:8: exp of net.0 is inf at [3]" */
/* What a replay says of that: "range: finite in f32, …", "real: not finite in f32 either, …" */
void mp_replay_text(const mp_origin *origin, const mp_origin *replay, mp_text *t);
uint64_t mp_kind_bytes(const mp_desc *d, mp_state_kind kind);
/* Those of the state to `copy`; back: from there. */
void mp_copy_kind(const mp_ctx *ctx, mp_state_kind kind, char *copy, bool back);
uint64_t mp_finding_bytes(const mp_model *m);
const mp_site *mp_first_bad_state(const mp_ctx *ctx, uint32_t entry); /* written by it; or NULL */

/* ---- scale.c ------------------------------------------------------------------------------- */

typedef float mp_scale_fn(const void *user, const char *name); /* "scale", "scale:LOSS" */

/* What the scales make of 1 in a value of this unit; step: the entry that shows them. */
float mp_unit_scale(const mp_entry_desc *step, uint64_t unit, mp_scale_fn *scale_of,
                    const void *user);

/* ---- weights.c: of several losses, from the host -------------------------------------------- */

int mp_check_weights(mp_ctx *ctx, const mp_entry_desc *d, const mp_run *run);
void mp_place_weights(mp_ctx *ctx, const mp_entry_desc *d, const mp_run *run);

/* ---- state.c: get, set --------------------------------------------------------------------- */

int mp_find_state(const mp_ctx *ctx, const char *path); /* index, or -1 */
void *mp_state_data(const mp_ctx *ctx, uint32_t state);
uint32_t mp_state_crc(const mp_ctx *ctx, uint32_t state);
int mp_find_hyper(const mp_ctx *ctx, const char *name);
int64_t mp_counter(const mp_ctx *ctx, const char *name); /* 0 if there is none */
int64_t mp_steps_done(const mp_ctx *ctx);                /* skipped ones, too */

/* ---- parts.c: parameters kept in parts ----------------------------------------------------- */

bool mp_is_split(const mp_model *m, uint32_t state); /* it has no place, its parts have */
/* state: the context's, or what is laid out as that; f32: the whole tensor. */
void mp_parts_join(const mp_model *m, const char *state, uint32_t param, void *f32);
void mp_parts_split(const mp_model *m, char *state, uint32_t param, const void *f32);

/* ---- json.c: exactly the JSON that headers need, nothing lenient --------------------------- */

typedef struct mp_json {
  char *at, *end;  /* end points at a NUL */
  const char *bad; /* what was wrong first; NULL so far */
} mp_json;

bool mp_json_take(mp_json *j, char c);   /* skips white space; true and past it if `c` is next */
bool mp_json_expect(mp_json *j, char c); /* the same, and an error if it is not */
char *mp_json_string(mp_json *j);        /* decoded in place, NUL-terminated; NULL: error */
bool mp_json_u64(mp_json *j, uint64_t *out);
bool mp_json_end(mp_json *j); /* nothing but white space is left */
void mp_json_quote(mp_text *t, const char *s);

/* ---- glob.c -------------------------------------------------------------------------------- */

typedef struct mp_glob_parts { /* what the wildcards of a pattern matched, in order */
  struct {
    const char *at;
    size_t n;
  } at[16];
  uint32_t len;
  const char *rest; /* of the path, behind the module that the pattern matched */
} mp_glob_parts;

bool mp_glob_match(const char *glob, const char *path, mp_glob_parts *parts);
/* `to` with its wildcards filled; false: it has not as many. */
bool mp_glob_fill(const char *to, const mp_glob_parts *parts, mp_text *out);

/* ---- safetensors.c ------------------------------------------------------------------------- */

typedef struct mp_st_tensor {
  char *name, *dtype;
  int32_t ndim;
  int64_t dims[MP_MAX_RANK];
  uint64_t begin, end;
} mp_st_tensor;

typedef struct mp_st_note {
  char *key, *value;
} mp_st_note;

typedef struct mp_st {
  char *text;            /* the header, its strings decoded in place */
  mp_st_tensor *tensors; /* ascending by begin: no holes, no overlap */
  mp_st_tensor **by_name;
  mp_st_note *notes; /* __metadata__, ascending by key */
  uint32_t n_tensors, n_notes;
  uint64_t data_bytes;
  bool has_crc;
} mp_st;

typedef struct mp_st_item { /* one tensor to write */
  const mp_tensor *tensor;
  const void *data;
  const mp_ctx *joins; /* not NULL: data is the room that `state` of it is joined in */
  uint32_t state;
} mp_st_item;

/* `size` of the whole file, or UINT64_MAX for a stream.  `where` begins the error's sentence. */
int mp_st_read_header(mp_st *st, mp_read_fn read, void *user, uint64_t size, const char *where,
                      mp_error *err);
const mp_st_tensor *mp_st_find(const mp_st *st, const char *name);
const char *mp_st_note_of(const mp_st *st, const char *key); /* NULL: none */
int mp_st_check_crc(const mp_st *st, const mp_st_tensor *t, uint32_t crc, const char *where,
                    mp_error *err);
void mp_st_free(mp_st *st);
/* notes: pairs key, value, …; items in file order */
int mp_st_write(const mp_st_item *items, uint32_t n, const mp_st_note *notes, uint32_t n_notes,
                mp_write_fn write, void *user, mp_error *err);

/* ---- file.c: files that are either whole or not there -------------------------------------- */

int mp_make_dirs(const char *path, mp_error *err); /* like mkdir -p, each one synced */
int mp_sync_dir(const char *path, mp_error *err);
typedef int mp_fill_fn(void *user, mp_write_fn write, void *sink, mp_error *err);
int mp_write_synced(const char *path, mp_fill_fn *fill, void *user, mp_error *err);
int mp_swap_in(const char *temp, const char *path, mp_error *err); /* also over an old directory;
                                                    `temp` is then gone or holds the old one */
bool mp_is_dir(const char *path);
bool mp_is_file(const char *path);
char *mp_path(const char *dir, const char *name); /* malloc'ed "dir/name"; NULL: no memory */
char *mp_parent(const char *path);                /* malloc'ed; "." where there is none */
const char *mp_path_base(const char *path);       /* without folders */

typedef struct mp_reader {
  int fd;
  uint64_t size;
} mp_reader;

int mp_reader_open(mp_reader *r, const char *path, mp_error *err);
int mp_reader_read(void *reader, void *bytes, size_t n); /* an mp_read_fn */
void mp_reader_close(mp_reader *r);

/* ---- fit.c: what of a file goes where ------------------------------------------------------ */

typedef struct mp_want {    /* of one state */
  const mp_st_tensor *from; /* NULL: it stays as it is */
  bool transpose;
} mp_want;

/* Every state of these parts, and nothing else, is in the file. */
int mp_fit_whole(const mp_ctx *ctx, const mp_st *st, int parts, mp_want *want, const char *where,
                 mp_error *err);
/* The parameters and module states that `how` chooses. */
int mp_fit_some(const mp_ctx *ctx, const mp_st *st, const mp_load *how, mp_want *want,
                const char *where, mp_error *err);
/* The bytes of the tensor as the state holds them. */
void mp_fit_copy(const mp_tensor *t, const mp_want *want, const void *bytes, void *out);

/* ---- checkpoint.c, save.c, load.c ---------------------------------------------------------- */

enum { MP_PART_MODEL = 1, MP_PART_STATE = 2, MP_PART_ALL = 3 };

extern const char *const mp_part_names[], *const mp_part_files[]; /* by part */

#define MP_UNSAVED_NOTE "unsaved:" /* and the path: CRC of a state that checkpoints do not hold */

int mp_part_of(const mp_state_desc *s); /* 0: not saved */
int mp_no_memory(mp_error *err);
char *mp_checkpoint_path(const char *dir, int64_t step); /* malloc'ed, as the next */
char *mp_checkpoint_temp(const char *parent, const char *path);
bool mp_checkpoint_whole(const char *path);    /* both files are there */
bool mp_checkpoint_only(const char *path);     /* no other file is there */
void mp_checkpoint_remove(const char *path);   /* its two files and itself; errors do not matter */
int64_t mp_checkpoint_newest(const char *dir); /* step of the newest whole one, or -1 */
void mp_checkpoint_prune(const char *dir, int keep);
void mp_checkpoint_clean(const char *dir); /* removes what killed savings left */

/* ---- policy.c: what a checkpoint's run stored in other types than this one; said, kept in mind - */

void mp_note_policy(mp_ctx *ctx, const mp_st *st, const char *where);

/* ---- formula.c: metrics of totals ---------------------------------------------------------- */

typedef bool mp_mean_fn(void *user, const char *name, double *out); /* false: no such metric */

bool mp_formula(const char *rpn, mp_mean_fn *mean, void *user, double *out);
const char *mp_formula_of(const mp_desc *d, const char *name); /* its text; NULL: none */

/* ---- shuffle.c: a permutation of [0, n) without a table ------------------------------------ */

typedef struct mp_shuffle {
  uint64_t n, mask;
  uint32_t half; /* bits of each half of a position */
  uint64_t keys[6];
} mp_shuffle;

mp_shuffle mp_shuffle_new(uint64_t n, uint64_t seed, uint64_t epoch);
uint64_t mp_shuffle_at(const mp_shuffle *s, uint64_t position);

#endif
