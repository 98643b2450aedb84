/* emit.h: what the files of codegen/cpu share beside gemm.h.  Private to codegen/cpu.
 *
 *   cpu.c     a Program to code; target.c: levels and processors
 *   module.c  the LLVM module: attributes, runtime calls, LLVM's passes, output
 *   kernel.c  one function a distinct kernel; entry.c  one an entry, calling them in order
 *   map.c reduce*.c product.c scatter.c   the loops of the kernel forms
 *   index.c   loop axes: which axes of a space fold into one, and where in memory an index lies
 *   expr.c    the value of a node at an index, by recursion
 *   flow.c    loops, branches, scopes; memory.c  loads and stores of vectors
 *   tables.c  the constants of runtime/model.h; sites.c  those that say where floats come from
 */
#ifndef CODEGEN_CPU_EMIT_H
#define CODEGEN_CPU_EMIT_H

#include "codegen/cpu/cpu.h"
#include "codegen/cpu/gemm.h"
#include "ir/program.h"
#include "ir/scalar.h"
#include "runtime/model.h"

#include <llvm-c/Core.h>
#include <llvm-c/TargetMachine.h>

/* Whose instructions code uses, and the processor it is scheduled for. */
typedef struct CpuLevel {
  const char *name; /* "x86-64-v3", "native:x86-64-v3" */
  VecInfo vec;
  const char *llvm, *tune;     /* LLVM processor names */
  const char *more;            /* features beyond llvm's, as LLVM writes them; NULL: none */
  const char *const *features; /* NULL at the end: what a context checks */
} CpuLevel;

struct CpuTarget {
  Target base;
  const char *triple, *arch;
  bool foreign; /* not the machine that mpcc runs on */
  CpuLevel level[CPU_MOST_LEVELS];
  unsigned n;
};

void target_init(const CpuTarget *t, int opt); /* of LLVM, before threads */
const char *target_lower(const CpuTarget *t);  /* the next below the lowest; NULL: none */
LLVMTargetMachineRef target_machine(const CpuTarget *t, int opt, const char **why);

/* ---- the module ------------------------------------------------------------------------------ */

typedef struct KernelFn {
  const char *key; /* interned text of everything the function depends on */
  LLVMValueRef fn;
  /* Or NULL; what thread 0 calls when all threads have run fn.  Then `scratch` of both is memory
   * that all threads share, of slot_bytes. */
  LLVMValueRef finish;
  uint64_t slot_bytes, scratch_bytes; /* scratch_bytes: of a thread, while it runs fn */
} KernelFn;

/* Where a step's floats can first be not finite; of other entries none. */
typedef struct Sites {
  uint32_t *of; /* by value: its site, or NO_ID; NULL: nobody has asked yet */
  VEC(mp_site) list;
  uint32_t arguments; /* come first */
} Sites;

typedef struct Module {
  Arena *arena; /* of this compilation */
  const Program *p;
  const Graph *g;
  const CpuTarget *target;
  const CpuLevel *level; /* of what is being emitted: one of the target's */
  const CpuOptions *o;
  unsigned part, load[CPU_MOST_PARTS]; /* which of o->parts this is; what each has to do */
  const Scalars *scalars;
  Sites *sites; /* by entry */
  Strings keys;
  VEC(KernelFn) kernels;
  uint64_t scratch_bytes; /* most that a kernel wants of a thread, rounded up; kernels come first */
  uint64_t slot_bytes;    /* that and what the entries' launches leave for each other */
  LLVMContextRef ctx;
  LLVMModuleRef mod;
  LLVMTypeRef none, i1, i8, i16, i32, i64, f32, f64, ptr;
} Module;

/* module.c */
void module_init(Module *m, LLVMTargetMachineRef tm);
LLVMValueRef module_int(const Module *m, int64_t v);      /* an i64 */
const char *module_place(const Module *m, Loc loc);       /* "model.mp:12:8" */
void module_attributes(const Module *m, LLVMValueRef fn); /* target, float mode, no unwinding */
/* An attribute of LLVM's own by its name; at: LLVMAttributeFunctionIndex, or parameter + 1. */
void module_add_attribute(const Module *m, LLVMValueRef fn, unsigned at, const char *name,
                          uint64_t v);
/* A call of the runtime's function of this name in calls.def. */
LLVMValueRef module_call(Module *m, LLVMBuilderRef b, const char *name, unsigned n,
                         LLVMValueRef *args);
bool module_optimize(Module *m, LLVMTargetMachineRef tm, const char **why);
bool module_write(Module *m, LLVMTargetMachineRef tm, CpuCode *code, const char **why);

/* ---- one kernel's emission ------------------------------------------------------------------- */

/* A run of axes of the index space that no access tells apart from one axis. */
typedef enum AxisKind {
  AXIS_SPLAT, /* all lanes at `at` */
  AXIS_STEP,  /* lane i at `at` + i */
  AXIS_LANES  /* `at` is a vector */
} AxisKind;

typedef struct Axis {
  int64_t extent;
  AxisKind kind;   /* now */
  LLVMValueRef at; /* now; i64 or a vector of them */
  int scope;       /* in which it was set */
} Axis;

/* Where a value is wanted along one of its own axes. */
typedef enum IxKind {
  IX_ZERO,
  IX_AXIS, /* at the loop index of axis `axis` of the space */
  IX_VALUE /* at a computed place (gather) */
} IxKind;

/* An emitted value: a vector of `lanes`, or where !wide one value that all lanes share. */
typedef struct Val {
  LLVMValueRef v;
  bool wide;
  int scope; /* the innermost scope it depends on */
} Val;

typedef struct Ix { /* the place there times scale, 0 standing for 1, plus offset (slice) */
  IxKind kind;
  int axis;
  Val value; /* i64 */
  int64_t scale, offset;
} Ix;

typedef struct Index { /* of a value, one Ix an axis */
  Ix at[MAX_RANK];
} Index;

/* A scope is the function's, a loop's or a branch's body, numbered by depth.  What does not depend
 * on the inner ones is emitted in the outer one's code, in front of `before`.  ROOT is the first
 * block: pointers and constants. */
enum { ROOT = 0, BODY = 1, MAX_SCOPES = 8 };

typedef struct Memo {
  ValueId value;
  Index index;
  unsigned sub;
  Val val;
} Memo;

typedef struct Kernel {
  Module *m;
  const Graph *g;
  const Node *node;
  const Block *body;
  int64_t batch;
  LLVMBuilderRef b;
  LLVMValueRef fn, tid, threads, rows, scratch; /* i64 and pointers */
  LLVMValueRef tid32, threads32;
  LLVMBasicBlockRef block; /* where the code of the innermost scope goes on */
  LLVMValueRef before[MAX_SCOPES];
  int scope;             /* the innermost */
  int64_t dim[MAX_RANK]; /* the space */
  int rank, lead;
  bool parted[MAX_RANK]; /* axis does not fold into the one before it */
  int group[MAX_RANK];   /* its Axis, -1: size 1 */
  bool last[MAX_RANK];   /* of its group */
  Axis axis[MAX_RANK + 1];
  int axes;
  unsigned lanes;                     /* of a vector, a power of two */
  unsigned valid;                     /* lanes that exist; fewer in a tail */
  unsigned sub;                       /* which of several neighbouring vectors; values of */
  int sub_scope;                      /* this scope and inner ones are of one of them */
  uint64_t scratch_bytes, slot_bytes; /* what measure_* says */
  VEC(Memo) memo;
} Kernel;

/* kernel.c, entry.c, tables.c */
/* Rows of a full batch, as kernels count them: 0 in what runs once (init, derive), which is not
 * worth optimising; 1 where an entry that runs often has none. */
int64_t entry_batch(const Entry *e);
const char *level_suffix(const Module *m); /* of names of what there is once a level */
KernelFn kernel_function(Module *m, NodeId launch, int64_t batch); /* batch: the entry's */
LLVMValueRef entry_function(Module *m, uint32_t index);
mp_tensor describe_tensor(const char *name, Type type);
/* What the tables say of a level. */
typedef struct LevelCode {
  const CpuLevel *level;
  LLVMValueRef *entries;
  uint64_t scratch_bytes;
} LevelCode;

void tables_emit(Module *m, const LevelCode *levels, unsigned n); /* and the functions around */

const Sites *sites_of(const Module *m, uint32_t entry); /* sites.c */

/* map.c, reduce.c, product.c, scatter.c */
void fit_lanes(Kernel *k, int64_t extent); /* vectors no wider than it takes */
void emit_map(Kernel *k);
void emit_reduce(Kernel *k);
void emit_finish(Kernel *k); /* of a reduce kernel with slots */
void emit_product(Kernel *k);
void emit_scatter(Kernel *k);
void measure_reduce(Kernel *k);  /* slot_bytes */
void measure_product(Kernel *k); /* scratch_bytes */

/* ---- flow.c ---------------------------------------------------------------------------------- */

LLVMValueRef k_int(Kernel *k, int64_t v);
LLVMValueRef k_plus(Kernel *k, LLVMValueRef x, int64_t y); /* of integers, no vectors */
LLVMValueRef k_times(Kernel *k, LLVMValueRef x, int64_t y);
void k_go(Kernel *k, int scope); /* the builder to the end of a scope's code */
LLVMValueRef k_splat(Kernel *k, LLVMValueRef scalar,
                     unsigned lanes); /* the scalar where lanes is 1 */
LLVMTypeRef k_vector(LLVMTypeRef t, unsigned lanes);
LLVMValueRef k_iota(LLVMTypeRef t, unsigned lanes); /* constant 0, 1, … */

enum { MAX_CARRIED = 128 };

typedef struct Loop {
  LLVMBasicBlockRef guard, head, exit; /* guard NULL: runs at least once */
  LLVMValueRef i, end;
  int64_t step;
  unsigned n; /* carried values */
  LLVMValueRef phi[MAX_CARRIED];
} Loop;

/* for (i = from; i < end; i += step), a scope of its own; v[n] are carried: on open they become the
 * values in the body, on close, given what the next turn has, those behind the loop. */
void loop_open(Kernel *k, Loop *l, LLVMValueRef from, LLVMValueRef end, int64_t step, unsigned n,
               LLVMValueRef *v);
void loop_close(Kernel *k, Loop *l, LLVMValueRef *v);
LLVMBasicBlockRef branch_open(Kernel *k, LLVMValueRef cond); /* a scope */
void branch_close(Kernel *k, LLVMBasicBlockRef exit);
void inner_open(Kernel *k); /* a scope without a jump */
void inner_close(Kernel *k);
LLVMValueRef k_is_last_thread(Kernel *k);
/* This thread's part of 0 … n, in whole units; the last thread's ends at n. */
void k_share(Kernel *k, int64_t n, int64_t unit, LLVMValueRef *from, LLVMValueRef *end);

/* ---- index.c --------------------------------------------------------------------------------- */

/* The space and how its axes fold; border: axis that starts a new group in any case, or -1; lead:
 * the space's axis that is axis 0 of results of lower rank. */
void space_set(Kernel *k, Type space, int border, int lead);
int space_groups_before(const Kernel *k, int axis); /* groups of axes 0 … axis - 1 */
int64_t space_extent(const Kernel *k, int from, int n);
Index index_identity(Type t, int first); /* axis i of t is axis first + i of the space */
bool index_equal(const Index *a, const Index *b, int rank);
bool pad_cuts(const Node *n, Type x, Type y, int axis);
Index index_operand(const Graph *g, const Node *n, uint32_t operand, const Index *result);
/* Sets groups from … from+n-1 to flat place p, in the innermost scope. */
void space_place(Kernel *k, int from, int n, LLVMValueRef p, AxisKind kind);
/* Whether the index along ix lies below limit · (what is folded behind it): an i1 or a vector. */
Val index_below(Kernel *k, const Ix *ix, LLVMValueRef limit);
Val index_value(Kernel *k, const Ix *ix); /* as i32 */
int64_t ix_scale(const Ix *ix);
LLVMValueRef k_clamp(Kernel *k, LLVMValueRef x, LLVMValueRef low, LLVMValueRef high);
LLVMValueRef k_real_rows(Kernel *k, Type t); /* rows · m, an i64 of ROOT */

/* ---- memory.c -------------------------------------------------------------------------------- */

/* Registers: float for f32, i32 for integers and the bits of bf16 and f16, i1. */
Val k_load(Kernel *k, LLVMValueRef p, Type t, const Index *ix);
void k_store(Kernel *k, LLVMValueRef p, Type t, const Index *ix, Val v);
LLVMValueRef k_operand(const Kernel *k, uint32_t i);
LLVMValueRef k_result(const Kernel *k, uint32_t i);

/* ---- expr.c ---------------------------------------------------------------------------------- */

Val expr(Kernel *k, ValueId v, const Index *ix);
Val expr_row(Kernel *k, ValueId index, const Index *ix, int64_t n); /* of a table of n */
void expr_given(Kernel *k, ValueId v, const Index *ix, Val val);
void expr_forget(Kernel *k, int scope); /* what depends on the scope: its indices moved */
Val expr_program(Kernel *k, ScalarId id, unsigned n, const Val *args);
Val expr_wide(Kernel *k, Val v);
/* Registers of an element to those of its op's program (bf16 and f16 to float), and back. */
Val expr_to_program(Kernel *k, Val v, DType d);
Val expr_from_program(Kernel *k, Val v, SType is, DType d);
/* The elementwise program of an op on operands of this type, in registers of f32, i32 or i1. */
/* One place of the loops: the results of this rank. */
void emit_results(Kernel *k, int rank);

#endif
