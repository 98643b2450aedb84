/* mpcc_rt.h: the C ABI of a compiled model (C99, also C++).  See docs/abi.md.
 *
 * A library exports one symbol, NAME_get_api.  Code and `desc` are immutable and shared between
 * contexts; a context serves one thread at a time (cancel alone may come from any); two contexts
 * are independent.  The library never exits, aborts or prints.  Errors are negative codes; error()
 * says what happened, with op and source line where there is one.
 */
#ifndef MPCC_RT_H
#define MPCC_RT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define MP_ABI 1u

enum { MP_MAX_RANK = 8 };

/* One name a line, in the order of ir's DType. */
typedef enum mp_dtype {
  MP_F32,
  MP_BF16,
  MP_F16,
  MP_F8E4M3FN,
  MP_F8E5M2,
  MP_F8E8M0,
  MP_I64,
  MP_I32,
  MP_U32,
  MP_U16,
  MP_U8,
  MP_I1 /* one byte, 0 or 1 */
} mp_dtype;

typedef enum mp_status {
  MP_OK = 0,
  MP_E_ARG = -1, /* a bad argument: unknown name, wrong size, rows out of range */
  MP_E_MEMORY = -2,
  MP_E_CPU = -3,       /* this CPU lacks an instruction set the library was compiled for */
  MP_E_IO = -4,        /* a file could not be read or written */
  MP_E_FORMAT = -5,    /* a file is damaged or does not fit the model */
  MP_E_INDEX = -6,     /* a run-time index was out of range; nothing was committed */
  MP_E_NONFINITE = -7, /* an update became non-finite; the state must not be saved */
  MP_E_CANCELLED = -8
} mp_status;

/* A tensor in DLPack's layout (DLTensor), so that NumPy and others read it without a copy. */
typedef struct mp_view {
  void *data;
  struct { /* {1, 0}: CPU */
    int32_t device_type, device_id;
  } device;
  int32_t ndim;
  struct { /* code 0 int, 1 uint, 2 float, 4 bfloat, 6 bool; 10, 12, 14: fp8 e4m3fn, e5m2, e8m0 */
    uint8_t code, bits;
    uint16_t lanes;
  } dtype;
  int64_t *shape;   /* valid as long as the library is loaded */
  int64_t *strides; /* NULL: compact, row-major */
  uint64_t byte_offset;
} mp_view;

typedef struct mp_tensor {
  const char *name; /* "images", "net.0.weight" */
  int32_t dtype;    /* mp_dtype */
  int32_t ndim;
  int64_t dims[MP_MAX_RANK];
  int32_t rows; /* the axis whose leading part is the real rows of a batch; -1: none */
  int32_t reserved;
} mp_tensor;

typedef enum mp_state_kind {
  MP_PARAM,   /* weight: f32 master, or what it has instead */
  MP_STATE,   /* state of a module */
  MP_MOMENT,  /* state of an optimizer: "net.0.weight:m" */
  MP_COUNTER, /* step, attempt, skipped; loss scale; histories and scales of fp8(delayed) */
  MP_DERIVED, /* of a parameter: low copy, fp8 codes; rebuilt by `derive`, never saved */
  MP_SHADOW,  /* what STEP.grads hands to STEP.apply: "grad:PATH", "weight:LOSS"; never saved */
  MP_PART     /* of a parameter with MP_STATE_SPLIT, which stands for its parts */
} mp_state_kind;

/* Flags of a state. */
enum {
  MP_STATE_MUST_LOAD = 1, /* without initializer: nothing runs until it was loaded or set */
  MP_STATE_FROZEN = 2,    /* never trained */
  MP_STATE_UNSAVED = 4,   /* checkpoints hold only its checksum: what loaded it does so again */
  MP_STATE_PHASED = 8,    /* has the batch as a dim: saved beside the moments */
  MP_STATE_PRIVATE = 16,  /* of eval or infer alone: lives with the context, is never saved */
  MP_STATE_SPLIT = 32     /* kept in parts; get gives a copy of now, set takes it apart */
};

typedef struct mp_state_desc {
  mp_tensor tensor;
  int32_t kind;   /* mp_state_kind */
  int32_t master; /* index of the parameter that a derived one copies or a part is of, else -1 */
  uint32_t flags;
  uint32_t reserved; /* 0 */
} mp_state_desc;

typedef enum mp_output_role {
  MP_OUT_VALUE,       /* a result of an infer function */
  MP_OUT_SUM,         /* f32[]: sum over real rows of a loss or metric; its MP_OUT_WEIGHT is next */
  MP_OUT_WEIGHT,      /* f32[]: the weight that the sum is to be divided by */
  MP_OUT_OK,          /* i1[]: everything was finite and the step committed */
  MP_OUT_FAULT_INDEX, /* i1[]: a run-time index was out of range, at `where` */
  MP_OUT_FAULT_NONFINITE, /* i1[]: the update of `name` became non-finite */
  MP_OUT_HYPER,           /* f32[]: the value that hyperparameter `name` had in this step */
  MP_OUT_FINITE,          /* i1[]: what `name` says ("grad:net.0.weight") was finite, of `where` */
  MP_OUT_GAUGE,           /* f32[]: a number of this step: "grad_norm", unscaled; "scale", S */
  MP_OUT_WATCH /* f32[], five in a row of each value that was compiled with --watch: "NAME max", the
                  largest |x|; "NAME squares", Σ x²; how many were "flushed" to zero when stored,
                  "saturated", i.e. made infinite or cut; and how many "elements" there are */
} mp_output_role;

typedef struct mp_output_desc {
  mp_tensor tensor;
  int32_t role;      /* mp_output_role */
  const char *where; /* "model.mp:12:8: cross_entropy" for faults, else NULL */
} mp_output_desc;

typedef enum mp_entry_kind {
  MP_INIT,      /* fresh state from the seed; run by init() */
  MP_STEP,      /* forward, backward, guard, update, commit */
  MP_EVAL,      /* losses and metrics of a batch */
  MP_INFER,     /* a function of the program's infer block */
  MP_FIT,       /* reserved */
  MP_DERIVE,    /* derived copies, behind whatever wrote a parameter; run by the library itself */
  MP_GRADS,     /* STEP.grads: forward and backward; results in states of kind MP_SHADOW */
  MP_APPLY,     /* STEP.apply: guard, update, commit from those */
  MP_CALIBRATE, /* STEP.calibrate, of fp8(delayed): first scales, from a batch; the library runs it
                   itself, on the batch of the first STEP or STEP.grads after init */
  MP_REPLAY, /* STEP.replay, of --with-replay: the step in f32, up to its guard; run by replay() */
  MP_ORIGIN  /* STEP.origin, of --with-replay: the same as it was, op by op; run by origin() */
} mp_entry_kind;

enum { MP_ENTRY_FULL = 1 }; /* flag of an entry: only full batches make sense, tail(drop) */

typedef struct mp_entry_desc {
  const char *name; /* "train_step" */
  int32_t kind;     /* mp_entry_kind */
  uint32_t flags;
  int64_t batch; /* rows of a full batch; 0 where there is none */
  uint32_t n_inputs, n_outputs;
  const mp_tensor *inputs;
  const mp_output_desc *outputs;
} mp_entry_desc;

typedef struct mp_hyper_desc {
  const char *name;  /* "lr"; "steps", the length of the run that schedules see */
  double value;      /* NaN: follows its schedule */
  const char *shown; /* "linear(0.001, to: 0)" */
} mp_hyper_desc;

typedef enum mp_source_kind {
  MP_ROWS, /* one row of the file is one row of the input */
  MP_WINDOWS, /* row i is elements i·length … i·length + length: the last is the next one's first */
  MP_LANES /* the same, each row of the batch consecutive in time; NAME.fresh: i1[B] at its start */
} mp_source_kind;

/* What of a data file an input of the entries is read from. */
typedef struct mp_source_desc {
  const char *name;   /* "text", an input of the entries that read it */
  int32_t kind;       /* mp_source_kind */
  int32_t dtype;      /* of an element in the file */
  int64_t length;     /* T of windows and lanes, 0 of rows */
  int64_t categories; /* category(n): numbers 0 … n-1, or up to n names; 0: none */
} mp_source_desc;

typedef enum mp_split_kind { MP_SPLIT_NONE, MP_SPLIT_LAST, MP_SPLIT_RANDOM } mp_split_kind;

/* A metric of totals: in reverse Polish, "$loss exp"; $NAME is that metric's sum / weight. */
typedef struct mp_formula_desc {
  const char *name, *rpn;
} mp_formula_desc;

/* Parameters that `init` is to be followed by: a `load` of the train block. */
typedef struct mp_load_desc {
  const char *from, *glob;
  const char *const *map; /* as in mp_load */
} mp_load_desc;

typedef struct mp_desc {
  uint32_t abi, size;
  const char *name, *source, *source_hash, *compiler;
  const char *target; /* the instruction-set levels in here: "x86-64-v3,x86-64-v4" */
  const char *precision;
  uint32_t n_entries, n_states, n_hypers;
  const mp_entry_desc *entries;
  const mp_state_desc *states;
  const mp_hyper_desc *hypers;
  uint64_t arena_bytes, state_bytes;
  int64_t default_steps, default_epochs; /* of the train block; 0: not given */
  uint32_t n_sources, n_formulas, n_loads;
  int32_t split; /* mp_split_kind: what of the data is held out for eval */
  double split_fraction;
  const mp_source_desc *sources; /* none: every input is read by rows */
  const mp_formula_desc *formulas;
  const mp_load_desc *loads;
  const char *policy;   /* hash of what is stored in which type: mpcc --precision-manifest */
  const char *manifest; /* that text, a line an op; saved with the state */
} mp_desc;

typedef struct mp_ctx mp_ctx;
typedef struct mp_error {
  char text[512];
} mp_error;

typedef struct mp_options {
  size_t struct_size;
  int threads; /* 0: all cores this process may use */
  void (*log)(void *user, const char *line);
  void *(*alloc)(void *user, size_t bytes, size_t align); /* NULL: malloc */
  void (*free)(void *user, void *p);
  void *user;
  const char *cpu; /* whose code of those in desc->target; NULL: the best that this CPU can run */
} mp_options;

enum { MP_RUN_NEW_TOTAL = 1 }; /* this run begins a new total of the entry's metrics */

typedef struct mp_run {
  size_t struct_size;
  int64_t rows;  /* 1 … batch */
  uint64_t draw; /* counter of random draws of an infer entry: the low 32 bits count */
  uint32_t flags;
  uint32_t reserved; /* 0 */
  /* Of STEP.grads with several losses, which refuses to run without: the weight of each over all
   * machines, in the order of the entry's losses.  Elsewhere NULL. */
  const double *weights;
  uint32_t n_weights;
} mp_run;

typedef struct mp_result {
  size_t struct_size;
  int committed;       /* 0: something was not finite, nothing changed but the counters */
  double loss, weight; /* of this run: the entry's first sum / its weight, and that weight */
} mp_result;

/* Where a step that did not commit was first not finite. */
typedef struct mp_origin {
  size_t struct_size;
  const char *where; /* "model.mp:12:8: exp of net.0"; NULL: nothing was, the batch had no weight */
  double value;      /* inf, -inf or NaN */
  int32_t ndim;
  int64_t at[MP_MAX_RANK]; /* the first element that is */
  int32_t dtype;           /* as it is stored: in this type, */
  double scale;            /* times this loss scale */
} mp_origin;

typedef struct mp_load {
  size_t struct_size;
  const char *glob; /* NULL and no map: a whole checkpoint; else parameters and module states that
                       it covers, "blocks.*.attn"; NULL: all of them */
  const char *const *map; /* pairs "to", "from", …, NULL: what paths are called in the file; `from`
                             takes the wildcards of `to`, and may end in " transpose" */
  uint32_t flags;
} mp_load;

typedef int (*mp_write_fn)(void *user, const void *bytes, size_t n); /* 0: ok */
typedef int (*mp_read_fn)(void *user, void *bytes, size_t n);        /* 0: ok, all n bytes */

/* Every function but cancel and error returns an mp_status.  Sizes are in bytes, rows in rows. */
typedef struct mp_api {
  uint32_t abi, size;
  const mp_desc *desc;

  /* Checks this CPU, allocates everything, starts the threads.  options NULL: the defaults.  The
   * error (may be NULL) says what failed; there is no context to ask then. */
  int (*create)(const mp_options *options, mp_ctx **ctx, mp_error *error);

  /* Fresh parameters from the seed; all other state is zero or what its initializer says. */
  int (*init)(mp_ctx *, uint64_t seed);

  /* `data` is borrowed until the next bind of the input and read by every run: compact, row-major,
   * in the machine's byte order; at least rows · row bytes where axis 0 is the batch, else whole.
   */
  int (*bind)(mp_ctx *, uint32_t entry, uint32_t input, const void *data, size_t bytes);

  /* run NULL: a full batch; result may be NULL (else set its struct_size).  A step that met
   * something not finite returns MP_OK with committed = 0.  After MP_E_NONFINITE (an update itself
   * overflowed) steps and save refuse until init or a whole load. */
  int (*run)(mp_ctx *, uint32_t entry, const mp_run *run, mp_result *result);

  /* The state itself, no copy: read only, valid until destroy, changed by run, set, init, load. */
  int (*get)(mp_ctx *, const char *path, mp_view *);

  /* Copies in (compact CPU data of exactly the state's type and shape), subnormals become zero, and
   * rebuilds the low copies of a parameter. */
  int (*set)(mp_ctx *, const char *path, const mp_view *);

  /* What the entry's last run produced, valid until its next run.  For MP_OUT_SUM and MP_OUT_WEIGHT
   * it is an f64[]: the total over all committed runs since one had MP_RUN_NEW_TOTAL; a metric of a
   * whole data set is the quotient of the two. */
  int (*output)(mp_ctx *, uint32_t entry, uint32_t output, mp_view *);

  /* Replaces the value or schedule until NaN clears it; saved with the state. */
  int (*hyper)(mp_ctx *, const char *name, double value);

  /* A directory with model.safetensors and state.safetensors, whole or not there; an older
   * checkpoint of that name is replaced, anything else there is an error. */
  int (*save)(mp_ctx *, const char *path);

  /* Such a directory; or a directory of step-… ones (the newest whole one); or a safetensors file:
   * with both parts, or parameters and module states only (then init first).  All or nothing: an
   * error leaves the context as it was.  With `how` only what it chooses is taken, from any
   * safetensors file or the model part of a checkpoint; f16 and bf16 become f32. */
  int (*load)(mp_ctx *, const char *path, const mp_load *how);

  /* Both parts as one safetensors stream. */
  int (*save_to)(mp_ctx *, mp_write_fn, void *user);
  int (*load_from)(mp_ctx *, mp_read_fn, void *user);

  /* From any thread: the next run that has not begun returns MP_E_CANCELLED, once; one under way
   * ends as usual, so the state is never half of anything. */
  void (*cancel)(mp_ctx *);

  const char *(*error)(const mp_ctx *); /* of the last call that failed */
  void (*destroy)(mp_ctx *);            /* NULL is fine */

  /* Of the entry's last run, a step that returned with committed = 0: runs it again, kernel by
   * kernel (op by op in a library built --with-replay), and changes nothing.  Only as long as no
   * other function ran or changed a state, on inputs that are still bound and as they were.
   * STEP.grads can be asked, too, behind its run and behind that of STEP.apply if that did not
   * commit: what it handed on, this machine's own. */
  int (*origin)(mp_ctx *, uint32_t entry, mp_origin *);

  /* The same step in f32, without a loss scale, in a library built --with-replay.  Not finite,
   * either: where it was first, so it is real.  Finite: `value` is the largest |x| there of what
   * origin() names (`where` NULL: nothing corresponds), so it is the range of the program's types.
   */
  int (*replay)(mp_ctx *, uint32_t entry, mp_origin *);
} mp_api;

#ifdef __cplusplus
}
#endif
#endif
