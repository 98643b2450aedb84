/* map.c: elementwise ops by their scalar programs (column SCALAR), and casts.
 *
 * In exact mode every element goes through the f32 or the i32 program as a bit pattern; narrow
 * floats are widened before and rounded after.  In f64 mode elements that are not integers go
 * through the op's f64 function.  The last operand decides: it is data where the first is a
 * condition.
 */
#include "ref/cells.h"

Fn fn_find(const Eval *e, const Node *n, DType operand) {
  Fn f = {.scalars = e->scalars};
  char kind = dtype_kind[operand];
  if (eval_wide(e) && kind != 'i') f.f64 = f64_fn[n->op];
  unsigned id = op_program(n->op, operand);
  if (id != SC_none) f.prog = &e->scalars->prog[id];
  if (!f.f64 && !f.prog) eval_refuse(e, n, "no scalar program for these element types");
  return f;
}

Elem fn_load(const Fn *f, const Tensor *x, int64_t i) {
  return f->f64 ? (Elem){.f = tensor_get(x, i)} : (Elem){.bits = tensor_get_bits(x, i)};
}

void fn_store(const Fn *f, Tensor *y, int64_t i, Elem v) {
  if (f->f64) tensor_set(f->scalars, y, i, v.f);
  else tensor_set_bits(f->scalars, y, i, (SType)f->prog->res_type[0], v.bits);
}

Elem fn_apply(const Fn *f, const Elem *x, uint32_t n) {
  uint32_t bits[SCALAR_ARGS], results[SCALAR_RESULTS];
  double numbers[SCALAR_ARGS];
  for (uint32_t k = 0; k < n; k++) {
    if (f->f64) numbers[k] = x[k].f;
    else bits[k] = x[k].bits;
  }
  if (f->f64) return (Elem){.f = f->f64(numbers)};
  scalar_run(f->prog, bits, results);
  return (Elem){.bits = results[0]};
}

enum { BLOCK = 256 };

/* Elements at, …, at + count - 1 through the scalar program. */
static void map_block(Eval *e, const Node *n, const Fn *f, int64_t at, uint32_t count) {
  uint32_t args[SCALAR_ARGS * BLOCK] = {0}, results[SCALAR_RESULTS * BLOCK];
  for (uint32_t k = 0; k < n->nops; k++)
    for (uint32_t i = 0; i < count; i++)
      args[k * count + i] = tensor_get_bits(eval_operand(e, n, k), at + i);
  scalar_run_many(f->prog, count, args, results);
  for (uint32_t i = 0; i < count; i++)
    tensor_set_bits(f->scalars, eval_output(e, n, 0), at + i, (SType)f->prog->res_type[0],
                    results[i]);
}

static void map_one(Eval *e, const Node *n, const Fn *f, int64_t i) {
  Elem x[SCALAR_ARGS];
  for (uint32_t k = 0; k < n->nops; k++) x[k] = fn_load(f, eval_operand(e, n, k), i);
  fn_store(f, eval_output(e, n, 0), i, fn_apply(f, x, n->nops));
}

void eval_map(Eval *e, const Node *n) {
  int64_t count = type_count(eval_output(e, n, 0)->type);
  Fn f = fn_find(e, n, (DType)eval_operand(e, n, n->nops - 1)->type.dtype);
  if (f.prog && f.prog->nargs != n->nops)
    eval_refuse(e, n, "its scalar program takes other operands");
  if (f.f64)
    for (int64_t i = 0; i < count; i++) map_one(e, n, &f, i);
  else
    for (int64_t i = 0; i < count; i += BLOCK)
      map_block(e, n, &f, i, (uint32_t)(count - i < BLOCK ? count - i : BLOCK));
}

/* In f64 nothing is rounded. */
void eval_saturated(Eval *e, const Node *n) {
  const Tensor *x = eval_operand(e, n, 0), *scale = eval_operand(e, n, 1);
  bool e5m2 = value_type(e->g, n->ops[2]).dtype == DT_f8e5m2;
  int64_t each = scale->type.rank > 0;
  const SProg *too_large = &e->scalars->prog[e5m2 ? SC_e5m2_too_large : SC_e4m3_too_large];
  Tensor *z = eval_output(e, n, 0);
  for (int64_t i = 0; i < type_count(z->type); i++) {
    uint32_t y, is, args[] = {tensor_get_bits(x, i), tensor_get_bits(scale, i * each)};
    scalar_run(&e->scalars->prog[SC_mul], args, &y);
    scalar_run(too_large, &y, &is);
    tensor_set(e->scalars, z, i, is && !eval_wide(e));
  }
}

void eval_flushed(Eval *e, const Node *n) {
  const Tensor *x = eval_operand(e, n, 0), *y = eval_operand(e, n, 1);
  Tensor *z = eval_output(e, n, 0);
  for (int64_t i = 0; i < type_count(z->type); i++) {
    bool zero = tensor_get(y, i) == 0 && !eval_wide(e);
    tensor_set(e->scalars, z, i, zero && tensor_get(x, i) != 0);
  }
}

/* The saturated code is a number of the type, so storing it rounds nothing more. */
void eval_saturate(Eval *e, const Node *n) {
  const Tensor *x = eval_operand(e, n, 0), *scale = eval_operand(e, n, 1);
  Tensor *y = eval_output(e, n, 0);
  bool e5m2 = y->type.dtype == DT_f8e5m2;
  int64_t each = scale->type.rank > 0; /* element has its own, or all have one */
  const SProg *product = &e->scalars->prog[SC_mul];
  const SProg *narrow = &e->scalars->prog[e5m2 ? SC_f32_to_e5m2_sat : SC_f32_to_e4m3_sat];
  const SProg *widen = &e->scalars->prog[e5m2 ? SC_e5m2_to_f32 : SC_e4m3_to_f32];
  for (int64_t i = 0; i < type_count(y->type); i++) {
    if (eval_wide(e)) {
      tensor_set(e->scalars, y, i, tensor_get(x, i) * tensor_get(scale, i * each));
      continue;
    }
    uint32_t z, code, args[] = {tensor_get_bits(x, i), tensor_get_bits(scale, i * each)};
    scalar_run(product, args, &z);
    scalar_run(narrow, &z, &code);
    scalar_run(widen, &code, &z);
    tensor_set_bits(e->scalars, y, i, S_F32, z);
  }
}

/* As the result's type holds what the program gives, storing it rounds nothing more. */
void eval_round_by_bits(Eval *e, const Node *n) {
  const Tensor *x = eval_operand(e, n, 0), *bits = eval_operand(e, n, 1);
  Tensor *y = eval_output(e, n, 0);
  bool f16 = y->type.dtype == DT_f16;
  const SProg *narrow = &e->scalars->prog[f16 ? SC_f32_to_f16_random : SC_f32_to_bf16_random];
  const SProg *widen = &e->scalars->prog[f16 ? SC_f16_to_f32 : SC_bf16_to_f32];
  for (int64_t i = 0; i < type_count(y->type); i++) {
    if (eval_wide(e)) {
      tensor_set(e->scalars, y, i, tensor_get(x, i));
      continue;
    }
    uint32_t z, code, args[] = {tensor_get_bits(x, i), tensor_get_bits(bits, i)};
    scalar_run(narrow, args, &code);
    scalar_run(widen, &code, &z);
    tensor_set_bits(e->scalars, y, i, S_F32, z);
  }
}

/* Between integers modulo the width; else by value, which a double holds exactly. */
void eval_cast(Eval *e, const Node *n) {
  const Tensor *x = eval_operand(e, n, 0);
  Tensor *y = eval_output(e, n, 0);
  char from = dtype_kind[x->type.dtype], to = dtype_kind[y->type.dtype];
  for (int64_t i = 0; i < type_count(y->type); i++) {
    if (from != 'f' && to == 'i') tensor_set_bits(e->scalars, y, i, S_I32, tensor_get_bits(x, i));
    else tensor_set(e->scalars, y, i, tensor_get(x, i));
  }
}
