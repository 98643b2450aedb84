/* test_scalar_emit.c: emitted scalar programs against interpreted ones, bit for bit.
 *
 *     test_scalar_emit [--long [NAME …]]
 *
 * Every program is compiled with 1, 8, 16 and 32 lanes at O3 for the host and for x86-64-v3, all of
 * one processor in one module: `entry` returns a table of functions over blocks of arguments.
 * Beside those of scalar.def there is a program for each primitive alone, for arithmetic with 0, 1
 * and their negatives, and for selects on a comparison of what they select from: LLVM likes to
 * rewrite these.
 * The two conversions of f16 are there twice, the second time by instruction (scalar_widen_f16).
 * Programs of one argument are tried, with 1 and 16 lanes, on a stride through all 2^32 patterns,
 * with --long or MPCC_LONG=1 on all of them (some minutes each; NAME: of these alone).
 */
#include "codegen/cpu/scalar_emit.h"
#include "ir/float_mode.h"
#include "tests/unit/gemm_jit.h"
#include "tests/unit/oracle.h"

#include <stdlib.h>

enum { BLOCK = 4096, WIDTHS = 4, ROUNDS = 2, PROGRAMS = 256 };
enum { ONE_OF = SANITIZED ? 16411 : 2053 }; /* blocks that a stride takes; odd: all codes of f16 */

static const unsigned LANES[WIDTHS] = {1, 8, 16, 32};

/* in[argument][i], out[result][i] */
typedef void BlockFn(const uint32_t *in, uint32_t *out);
typedef BlockFn *const *TableFn(void);

/* ---- programs ------------------------------------------------------------------------------ */

typedef struct Programs {
  SProg prog[PROGRAMS];
  uint32_t n, widen, narrow; /* the last two: f16 by instruction */
} Programs;

static const struct {
  const char *name, *operands;
  uint8_t result;
} PRIMS[] = {
#define PRIM(name, operands, result, doc) {#name, operands, result},
    SCALAR_PRIMS(PRIM)
#undef PRIM
};

enum { NPRIMS = sizeof PRIMS / sizeof *PRIMS };

static SType operand_type(char kind) { return kind == 'i' ? S_I32 : kind == 'b' ? S_I1 : S_F32; }

/* The result is the last instruction. */
static void add_program(Arena *a, Programs *all, const char *name, const SInst *inst, uint32_t n) {
  SProg *p = &all->prog[all->n++];
  *p = (SProg){.name = name, .nres = 1, .ninst = n, .inst = arena_copy(a, inst, n * sizeof *inst)};
  for (uint32_t i = 0; i < n; i++)
    if (inst[i].prim == SP_ARG) p->arg[p->nargs++] = inst[i].type;
  p->res[0] = (uint16_t)(n - 1);
  p->res_type[0] = inst[n - 1].type;
}

static void add_prim(Arena *a, Programs *all, SPrim prim) {
  SInst inst[4] = {{0}}, last = {.prim = (uint8_t)prim, .type = PRIMS[prim].result};
  uint32_t n = (uint32_t)strlen(PRIMS[prim].operands);
  for (uint32_t i = 0; i < n; i++) {
    SType type = operand_type(PRIMS[prim].operands[i]);
    inst[i] = (SInst){.prim = SP_ARG, .type = (uint8_t)type, .imm = i};
    last.x[i] = (uint16_t)i;
  }
  inst[n] = last;
  add_program(a, all, PRIMS[prim].name, inst, n + 1);
}

/* x op c, c op x; of fma x * c + y and x * y + c. */
static void add_with_constant(Arena *a, Programs *all, SPrim prim, uint32_t c) {
  SInst inst[4] = {{.prim = SP_ARG},
                   {.prim = SP_ARG, .imm = 1},
                   {.prim = SP_CONST, .imm = c},
                   {.prim = (uint8_t)prim, .x = {0, 2, 1}}};
  const char *name = arena_printf(a, "%s with %08x", PRIMS[prim].name, c);
  add_program(a, all, name, inst, 4);
  inst[3] = (SInst){.prim = (uint8_t)prim, .x = {2, 0, 1}};
  if (prim == SP_fma) inst[3] = (SInst){.prim = SP_fma, .x = {0, 1, 2}};
  add_program(a, all, name, inst, 4);
}

static void add_select(Arena *a, Programs *all, SPrim prim, uint16_t yes, uint16_t no) {
  SInst inst[4] = {{.prim = SP_ARG},
                   {.prim = SP_ARG, .imm = 1},
                   {.prim = (uint8_t)prim, .type = S_I1, .x = {0, 1}},
                   {.prim = SP_select, .x = {2, yes, no}}};
  add_program(a, all, arena_printf(a, "select %s %u %u", PRIMS[prim].name, yes, no), inst, 4);
}

static void add_programs(Arena *a, Programs *all) {
  static const uint32_t CONSTANTS[] = {0, 0x80000000, 0x3f800000, 0xbf800000};
  const Scalars *s = scalars_parse(a);
  for (; all->n < SC_COUNT; all->n++) all->prog[all->n] = s->prog[all->n];
  for (uint32_t i = 0; i < NPRIMS; i++) add_prim(a, all, (SPrim)i);
  for (uint32_t i = SP_add; i <= SP_fma; i++)
    for (uint32_t k = 0; k < 4; k++) add_with_constant(a, all, (SPrim)i, CONSTANTS[k]);
  for (uint32_t i = SP_lt; i <= SP_eq; i++) {
    add_select(a, all, (SPrim)i, 0, 1);
    add_select(a, all, (SPrim)i, 1, 0);
  }
  all->prog[all->widen = all->n++] = s->prog[SC_f16_to_f32];
  all->prog[all->narrow = all->n++] = s->prog[SC_f32_to_f16];
}

/* ---- building ------------------------------------------------------------------------------ */

typedef struct Build {
  const Programs *all;
  LLVMContextRef c;
  LLVMModuleRef module;
  LLVMBuilderRef b;
  unsigned lanes;
} Build;

static LLVMValueRef column(const Build *b, LLVMValueRef base, uint32_t k, LLVMValueRef i) {
  LLVMTypeRef i32 = LLVMInt32TypeInContext(b->c), i64 = LLVMInt64TypeInContext(b->c);
  LLVMValueRef at = LLVMBuildAdd(b->b, i, LLVMConstInt(i64, (uint64_t)k * BLOCK, false), "");
  return LLVMBuildGEP2(b->b, i32, base, &at, 1, "");
}

static LLVMValueRef load_arg(const Build *b, SType type, LLVMValueRef place) {
  LLVMTypeRef bits = scalar_llvm_type(b->c, S_I32, b->lanes);
  LLVMTypeRef want = scalar_llvm_type(b->c, type, b->lanes);
  LLVMValueRef v = LLVMBuildLoad2(b->b, bits, place, "");
  LLVMSetAlignment(v, 4);
  return type == S_I1 ? LLVMBuildTrunc(b->b, v, want, "") : LLVMBuildBitCast(b->b, v, want, "");
}

static void store_result(const Build *b, SType type, LLVMValueRef v, LLVMValueRef place) {
  LLVMTypeRef bits = scalar_llvm_type(b->c, S_I32, b->lanes);
  v = type == S_I1 ? LLVMBuildZExt(b->b, v, bits, "") : LLVMBuildBitCast(b->b, v, bits, "");
  LLVMSetAlignment(LLVMBuildStore(b->b, v, place), 4);
}

static LLVMValueRef widen_f16(const Build *b, LLVMValueRef x) {
  LLVMTypeRef i16 = LLVMInt16TypeInContext(b->c);
  if (b->lanes > 1) i16 = LLVMVectorType(i16, b->lanes);
  return scalar_widen_f16(b->b, LLVMBuildTrunc(b->b, x, i16, ""));
}

static LLVMValueRef narrow_f16(const Build *b, LLVMValueRef x) {
  LLVMTypeRef i32 = scalar_llvm_type(b->c, S_I32, b->lanes);
  return LLVMBuildZExt(b->b, scalar_narrow_f16(b->b, x), i32, "");
}

static void build_body(const Build *b, const SProg *p, LLVMValueRef fn, LLVMValueRef i) {
  LLVMValueRef args[SCALAR_ARGS], results[SCALAR_RESULTS];
  for (uint32_t k = 0; k < p->nargs; k++)
    args[k] = load_arg(b, (SType)p->arg[k], column(b, LLVMGetParam(fn, 0), k, i));
  if (p == &b->all->prog[b->all->widen]) results[0] = widen_f16(b, args[0]);
  else if (p == &b->all->prog[b->all->narrow]) results[0] = narrow_f16(b, args[0]);
  else scalar_emit(b->b, p, b->lanes, args, results);
  for (uint32_t k = 0; k < p->nres; k++)
    store_result(b, (SType)p->res_type[k], results[k], column(b, LLVMGetParam(fn, 1), k, i));
}

static LLVMValueRef build_block(const Build *b, const SProg *p) {
  LLVMTypeRef ptr = LLVMPointerTypeInContext(b->c, 0), i64 = LLVMInt64TypeInContext(b->c);
  LLVMTypeRef type = LLVMFunctionType(LLVMVoidTypeInContext(b->c), (LLVMTypeRef[]){ptr, ptr}, 2, 0);
  LLVMValueRef fn = LLVMAddFunction(b->module, p->name, type);
  LLVMSetLinkage(fn, LLVMInternalLinkage);
  jit_set_attributes(fn, b->lanes);
  LLVMBasicBlockRef start = LLVMAppendBasicBlockInContext(b->c, fn, "start");
  LLVMBasicBlockRef loop = LLVMAppendBasicBlockInContext(b->c, fn, "loop");
  LLVMBasicBlockRef end = LLVMAppendBasicBlockInContext(b->c, fn, "end");
  LLVMPositionBuilderAtEnd(b->b, start);
  LLVMBuildBr(b->b, loop);
  LLVMPositionBuilderAtEnd(b->b, loop);
  LLVMValueRef i = LLVMBuildPhi(b->b, i64, "");
  build_body(b, p, fn, i);
  LLVMValueRef next = LLVMBuildAdd(b->b, i, LLVMConstInt(i64, b->lanes, false), "");
  LLVMValueRef more = LLVMBuildICmp(b->b, LLVMIntULT, next, LLVMConstInt(i64, BLOCK, false), "");
  LLVMBuildCondBr(b->b, more, loop, end);
  LLVMAddIncoming(i, (LLVMValueRef[]){LLVMConstInt(i64, 0, false), next},
                  (LLVMBasicBlockRef[]){start, loop}, 2);
  LLVMPositionBuilderAtEnd(b->b, end);
  LLVMBuildRetVoid(b->b);
  return fn;
}

static void build_table(LLVMModuleRef module, void *ctx) {
  const Programs *all = ctx;
  Build b = {.all = all, .c = LLVMGetModuleContext(module), .module = module};
  LLVMValueRef fn[WIDTHS * PROGRAMS];
  b.b = LLVMCreateBuilderInContext(b.c);
  for (uint32_t w = 0; w < WIDTHS; w++)
    for (uint32_t i = 0; i < all->n; i++) {
      b.lanes = LANES[w];
      fn[w * all->n + i] = build_block(&b, &all->prog[i]);
    }
  LLVMTypeRef ptr = LLVMPointerTypeInContext(b.c, 0);
  LLVMValueRef init = LLVMConstArray2(ptr, fn, WIDTHS * all->n);
  LLVMValueRef table = LLVMAddGlobal(module, LLVMTypeOf(init), "table");
  LLVMSetInitializer(table, init);
  LLVMSetGlobalConstant(table, true);
  LLVMValueRef entry = LLVMAddFunction(module, "entry", LLVMFunctionType(ptr, NULL, 0, false));
  LLVMPositionBuilderAtEnd(b.b, LLVMAppendBasicBlockInContext(b.c, entry, ""));
  LLVMBuildRet(b.b, table);
  LLVMDisposeBuilder(b.b);
}

/* ---- arguments ----------------------------------------------------------------------------- */

static const uint32_t SPECIAL[] = {
    0x00000000, 0x80000000, 0x00000001, 0x80000001, 0x007fffff, 0x807fffff, 0x00800000, 0x80800000,
    0x7f7fffff, 0xff7fffff, 0x7f800000, 0xff800000, 0x7fc00000, 0xffc00000, 0x7f800001, 0xffffffff,
    0x3f800000, 0xbf800000, 0x3f7fffff, 0x3f800001, 0x40000000, 0x3f000000, 0x00000020, 0x0000001f,
    0x4f000000, 0xcf000000, 0x4effffff, 0x42b17218, 0xc2aeac50, 0x7fffffff, 0x3f3504f3, 0x4b400000,
};

enum { NSPECIAL = sizeof SPECIAL / sizeof *SPECIAL };

static uint32_t next_random(uint64_t *state) {
  *state = *state * 6364136223846793005u + 1442695040888963407u;
  return (uint32_t)(*state >> 32);
}

/* Any pattern, one near 1 or small, a special one, or a special one with its last bits changed. */
static uint32_t draw(uint64_t *state) {
  uint32_t r = next_random(state), s = SPECIAL[next_random(state) % NSPECIAL];
  switch (next_random(state) % 4) {
  case 0: return r;
  case 1: return (r & 0x83ffffff) | 0x3c000000;
  case 2: return s;
  default: return s ^ (r & 3);
  }
}

static void fill(const SProg *p, uint32_t round, uint64_t *state, uint32_t *in) {
  for (uint32_t k = 0; k < p->nargs; k++)
    for (uint32_t i = 0; i < BLOCK; i++) {
      uint32_t pair = k ? SPECIAL[i / NSPECIAL % NSPECIAL] : SPECIAL[i % NSPECIAL];
      uint32_t v = round ? draw(state) : k < 2 ? pair : draw(state); /* round 0: every pair */
      in[k * BLOCK + i] = p->arg[k] == S_I1 ? v & 1 : v;
    }
}

/* ---- comparing ----------------------------------------------------------------------------- */

typedef struct Test {
  Programs all;
  Checks checks;
  const char *cpu;
  BlockFn *const *table;
  uint32_t in[SCALAR_ARGS * BLOCK], out[SCALAR_RESULTS * BLOCK];
  uint32_t want[SCALAR_RESULTS * BLOCK];
} Test;

static bool same(SType type, uint32_t a, uint32_t b) {
  return a == b || (type == S_F32 && is_nan(a) && is_nan(b));
}

/* The first difference is printed, the others only counted. */
static uint32_t count_differences(const Test *t, const SProg *p) {
  uint32_t wrong = 0;
  for (uint32_t i = 0; i < p->nres * BLOCK; i++) {
    if (same((SType)p->res_type[i / BLOCK], t->want[i], t->out[i]) || wrong++) continue;
    uint32_t x = t->in[i % BLOCK], y = p->nargs > 1 ? t->in[BLOCK + i % BLOCK] : 0;
    printf("%s(%08x, %08x) gives %08x, not %08x\n", p->name, x, y, t->out[i], t->want[i]);
  }
  return wrong;
}

static void compare(Test *t, uint32_t id) {
  const SProg *p = &t->all.prog[id];
  uint32_t wrong[WIDTHS] = {0};
  uint64_t state = id + 1, saved = float_mode_set();
  for (uint32_t round = 0; round < ROUNDS; round++) {
    fill(p, round, &state, t->in);
    scalar_run_many(p, BLOCK, t->in, t->want);
    for (uint32_t w = 0; w < WIDTHS; w++) {
      t->table[w * t->all.n + id](t->in, t->out);
      wrong[w] += count_differences(t, p);
    }
  }
  float_mode_restore(saved);
  for (uint32_t w = 0; w < WIDTHS; w++)
    check_that(&t->checks, !wrong[w], "%s, %s, %u lanes: %u wrong", p->name, t->cpu, LANES[w],
               wrong[w]);
}

static bool is_swept(const SProg *p) { return p->nargs == 1 && p->nres == 1 && p->arg[0] != S_I1; }

/* One block of so many, with 1 and 16 lanes. */
static void sweep(Test *t, uint32_t id, uint32_t one_of) {
  const SProg *p = &t->all.prog[id];
  uint32_t wrong = 0;
  uint64_t saved = float_mode_set();
  for (uint64_t x = 0; x <= UINT32_MAX; x += (uint64_t)one_of * BLOCK) {
    for (uint32_t i = 0; i < BLOCK; i++) t->in[i] = (uint32_t)x + i;
    scalar_run_many(p, BLOCK, t->in, t->want);
    for (uint32_t w = 0; w <= 2; w += 2) {
      t->table[w * t->all.n + id](t->in, t->out);
      if (memcmp(t->want, t->out, BLOCK * sizeof *t->out)) wrong += count_differences(t, p);
    }
  }
  float_mode_restore(saved);
  if (one_of == 1) printf("%-20s %u of 2^32 differ\n", p->name, wrong);
  fflush(stdout);
  check_that(&t->checks, !wrong, "%s, %s: %u wrong", p->name, t->cpu, wrong);
}

static bool is_named(const SProg *p, char **names) {
  for (; *names; names++)
    if (!strcmp(p->name, *names)) return true;
  return false;
}

static bool is_known(const Test *t, const char *name) {
  for (uint32_t id = 0; id < t->all.n; id++)
    if (is_swept(&t->all.prog[id]) && !strcmp(t->all.prog[id].name, name)) return true;
  fprintf(stderr, "test_scalar_emit --long [NAME …]: no program of one argument is %s\n", name);
  return false;
}

/* names: of what is swept whole; none: everything; NULL: nothing. */
static void test_cpu(Test *t, const char *cpu, char **names) {
  GemmTarget target = {cpu, cpu ? "" : NULL, "default<O3>", getenv("SCALAR_LISTING")};
  Jit jit;
  t->cpu = cpu ? cpu : "host";
  if (!check_that(&t->checks, jit_compile(&jit, build_table, &t->all, &target), "jit")) return;
  TableFn *entry;
  memcpy(&entry, &jit.entry, sizeof entry);
  t->table = entry();
  for (uint32_t id = 0; id < t->all.n; id++) compare(t, id);
  for (uint32_t id = 0; id < t->all.n; id++) {
    bool whole = names && (!*names || is_named(&t->all.prog[id], names));
    if (is_swept(&t->all.prog[id])) sweep(t, id, whole ? 1 : ONE_OF);
  }
  jit_free(&jit);
}

int main(int argc, char **argv) {
  static Test t;
  Arena arena = {0};
  add_programs(&arena, &t.all);
  char **names = argc > 1 ? argv + 2 : argv + argc;
  for (char **name = names; *name; name++)
    if (!is_known(&t, *name)) return 2;
  test_cpu(&t, NULL, checks_long(argc, argv) ? names : NULL);
#ifdef __x86_64__
  if (!SANITIZED) test_cpu(&t, "x86-64-v3", NULL); /* what is emitted is the same */
#endif
  arena_free(&arena);
  return checks_end(&t.checks, "test_scalar_emit");
}
