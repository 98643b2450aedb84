/* model.h: what a compiled model hands to the runtime: constant tables written by codegen (as LLVM
 * constants, by walking model.def's field order) and one function an entry.  Nothing here is
 * public; mpcc_rt.h is.
 *
 * Memory of a context:  state  - parameters, moments, counters, derived copies; regions by kind
 *                       arena  - inputs, hyperparameters, temporaries, outputs of one entry's run
 *                       scratch - private to a thread (packed panels)
 * An entry's function is called by every thread of the team with its own tid; it runs its share of
 * each kernel and meets the others in mp_barrier where a kernel reads what another thread wrote.
 */
#ifndef RUNTIME_MODEL_H
#define RUNTIME_MODEL_H

#include "runtime/mpcc_rt.h"

typedef struct mp_team mp_team;
typedef struct mp_replay mp_replay;

/* Generated code reads these fields by position: keep the order in step with calls.def. */
typedef struct mp_frame {
  char *state;
  char *arena;
  char *scratch; /* thread t's part starts at scratch + t * scratch_stride */
  uint64_t scratch_stride;
  int64_t rows; /* real rows of this batch, 1 … batch */
  mp_team *team;
  mp_replay *replay; /* looks at what kernels write (origin.c); NULL: an ordinary run */
} mp_frame;

typedef void mp_entry_fn(const mp_frame *frame, int32_t tid, int32_t threads);

/* Flags of a site. */
enum {
  MP_SITE_GUARDED = 1,      /* a step asks whether it is finite */
  MP_SITE_INF = 2,          /* +inf is lawful there, */
  MP_SITE_NEGATIVE_INF = 4, /* -inf: constants of the program */
  MP_SITE_WRITTEN = 8       /* a state's new value */
};

/* A float tensor of a step that may become not finite: an argument, or what a kernel writes. */
typedef struct mp_site {
  mp_tensor tensor; /* its name: "model.mp:12:8: exp of net.0" */
  uint32_t flags;
  int32_t state;        /* index of the state that it is, -1: none */
  const uint64_t *from; /* sites that it is computed of */
  uint64_t n_from;
  uint64_t what; /* the same computation in another entry has the same */
  uint64_t unit; /* loss scales that are factors of it: Unit of ir/op.h */
} mp_site;

/* Where in the arena or state an entry's arguments and results live. */
typedef struct mp_entry_code {
  const uint64_t *input_at;  /* arena offset of each input, batch rows long */
  const uint64_t *hyper_at;  /* arena offset of the f32 of each hyper; UINT64_MAX: unused */
  const uint64_t *output_at; /* arena offset of each output */
  uint64_t seed_at;          /* arena offset of u32[2], the run's seed; UINT64_MAX: unused */
  uint64_t draw_at;          /* arena offset of the i32 that counts draws; UINT64_MAX: unused */
  const mp_site *sites;      /* of a step; with check_nan of whatever runs often */
  uint64_t n_sites;
} mp_entry_code;

/* The same Program compiled for one instruction-set level: other code, the same memory and bits. */
typedef struct mp_level {
  const char *cpu;                 /* "x86-64-v3", "native:…" */
  const char *const *cpu_features; /* LLVM names without '+', then NULL; all must be present */
  mp_entry_fn *const *run;         /* one for each of desc->entries */
  uint64_t scratch_bytes;          /* a thread */
} mp_level;

/* What a step leaves in the arena, in a model built --with-values. */
typedef struct mp_value {
  mp_tensor tensor;  /* its name: passes/values.c */
  const char *reads; /* indexes of the values that go into it, "3 17" */
  uint64_t at;       /* arena offset */
  uint32_t entry;
  uint32_t unit; /* loss scales that are factors of it: Unit of ir/op.h */
} mp_value;

typedef struct mp_model {
  const mp_desc *desc;
  const mp_api *api; /* constant: the API rows of calls.def; `create` is the model's own thunk */
  const mp_entry_code *code; /* one for each of desc->entries */
  const uint64_t *state_at;  /* state offset of each of desc->states */
  const mp_level *levels;    /* the lowest first; a context takes the last that its CPU has */
  uint64_t n_levels;
  const char *cpu_flag;   /* the flag that would build for a lower one, for the error message */
  const mp_value *values; /* of steps, in the order they are computed */
  uint64_t n_values;
  uint64_t check_nan; /* 1: every run looks at what each kernel wrote, and ends at a NaN */
} mp_model;

/* The one exported symbol of a model calls this with its table: model->api, or NULL if too new. */
const mp_api *mp_get_api(const mp_model *model, uint32_t max_abi);

/* What a model's own `create` calls: int create(o, c, e) { return mp_create(&model, o, c, e); } */
int mp_create(const mp_model *model, const mp_options *options, mp_ctx **out, mp_error *error);

/* The other entries of every model's `api` (calls.def says which goes where). */
int mp_init(mp_ctx *ctx, uint64_t seed);
int mp_bind(mp_ctx *ctx, uint32_t entry, uint32_t input, const void *data, size_t bytes);
int mp_run_entry(mp_ctx *ctx, uint32_t entry, const mp_run *run, mp_result *result);
int mp_get(mp_ctx *ctx, const char *path, mp_view *view);
int mp_set(mp_ctx *ctx, const char *path, const mp_view *view);
int mp_output(mp_ctx *ctx, uint32_t entry, uint32_t output, mp_view *view);
int mp_hyper(mp_ctx *ctx, const char *name, double value);
int mp_save(mp_ctx *ctx, const char *path);
int mp_load_path(mp_ctx *ctx, const char *path, const mp_load *how);
int mp_save_to(mp_ctx *ctx, mp_write_fn write, void *user);
int mp_load_from(mp_ctx *ctx, mp_read_fn read, void *user);
void mp_cancel(mp_ctx *ctx);
int mp_find_origin(mp_ctx *ctx, uint32_t entry, mp_origin *origin);
int mp_run_replay(mp_ctx *ctx, uint32_t entry, mp_origin *found);
const char *mp_error_text(const mp_ctx *ctx);
void mp_destroy(mp_ctx *ctx);

/* Called by generated code inside an entry. */
void mp_barrier(mp_team *team);
void mp_probe(mp_replay *replay, int32_t tid, int32_t site, const void *at); /* thread 0 looks */

/* `main` of an executable is this; it lives in libmpcc_cli.a, which libraries do not link. */
int mp_cli(const mp_model *model, int argc, char **argv);

#endif
