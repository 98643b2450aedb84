/* flow.c: loops, branches and scopes of a kernel function.
 *
 * Every loop or branch body is a scope.  A value is emitted in the outermost scope whose indices it
 * needs, so invariants stand in front of loops from the start and -O0 code is not absurd.  For that
 * each scope remembers the jump that leads into the scope inside it (`before`): code of the scope
 * that turns out to be wanted only there goes in front of that jump.  ROOT has no code of its own:
 * its jump is the one out of the function's first block, so what stands there is seen everywhere.
 *
 * Loops are tested at the end, with a test in front where the bounds do not say that the body runs:
 * the shape LLVM would rotate them into.
 */
#include "codegen/cpu/emit.h"

#include <assert.h>

LLVMValueRef k_int(Kernel *k, int64_t v) { return module_int(k->m, v); }

LLVMValueRef k_plus(Kernel *k, LLVMValueRef x, int64_t y) {
  return y ? LLVMBuildNSWAdd(k->b, x, LLVMConstInt(LLVMTypeOf(x), (uint64_t)y, true), "") : x;
}

LLVMValueRef k_times(Kernel *k, LLVMValueRef x, int64_t y) {
  return y != 1 ? LLVMBuildNSWMul(k->b, x, LLVMConstInt(LLVMTypeOf(x), (uint64_t)y, true), "") : x;
}

LLVMTypeRef k_vector(LLVMTypeRef t, unsigned lanes) {
  return lanes == 1 ? t : LLVMVectorType(t, lanes);
}

LLVMValueRef k_iota(LLVMTypeRef t, unsigned lanes) {
  LLVMValueRef v[64];
  for (unsigned i = 0; i < lanes; i++) v[i] = LLVMConstInt(t, i, false);
  return lanes == 1 ? v[0] : LLVMConstVector(v, lanes);
}

LLVMValueRef k_splat(Kernel *k, LLVMValueRef scalar, unsigned lanes) {
  if (lanes == 1) return scalar;
  LLVMTypeRef t = LLVMVectorType(LLVMTypeOf(scalar), lanes), i32 = k->m->i32;
  LLVMValueRef none = LLVMGetPoison(t);
  LLVMValueRef one = LLVMBuildInsertElement(k->b, none, scalar, LLVMConstInt(i32, 0, false), "");
  return LLVMBuildShuffleVector(k->b, one, none, LLVMConstNull(LLVMVectorType(i32, lanes)), "");
}

void k_go(Kernel *k, int scope) {
  if (scope == k->scope) LLVMPositionBuilderAtEnd(k->b, k->block);
  else LLVMPositionBuilderBefore(k->b, k->before[scope]);
}

static LLVMBasicBlockRef new_block(Kernel *k, const char *name) {
  return LLVMAppendBasicBlockInContext(k->m->ctx, k->fn, name);
}

/* Ends the scope's block with a jump in front of which its invariants may still be put. */
static void jump_inside(Kernel *k) {
  LLVMBasicBlockRef next = new_block(k, "in");
  k_go(k, k->scope);
  LLVMValueRef jump = LLVMBuildBr(k->b, next);
  k->before[k->scope] = jump;
  k->block = next;
  k_go(k, k->scope);
}

static void scope_push(Kernel *k, LLVMBasicBlockRef body) {
  assert(k->scope + 1 < MAX_SCOPES);
  k->scope++;
  k->block = body;
  k_go(k, k->scope);
}

static void scope_pop(Kernel *k, LLVMBasicBlockRef exit) {
  expr_forget(k, k->scope);
  k->scope--;
  k->block = exit;
  k_go(k, k->scope);
}

/* ---- loops ----------------------------------------------------------------------------------- */

static bool runs(LLVMValueRef from, LLVMValueRef end) {
  return LLVMIsConstant(from) && LLVMIsConstant(end) &&
         LLVMConstIntGetSExtValue(from) < LLVMConstIntGetSExtValue(end);
}

void loop_open(Kernel *k, Loop *l, LLVMValueRef from, LLVMValueRef end, int64_t step, unsigned n,
               LLVMValueRef *v) {
  assert(n <= MAX_CARRIED);
  jump_inside(k);
  LLVMBasicBlockRef in = k->block;
  *l = (Loop){.head = new_block(k, "loop"), .exit = new_block(k, "exit"), .end = end, .step = step};
  l->guard = runs(from, end) ? NULL : in;
  l->n = n;
  if (l->guard) {
    LLVMValueRef any = LLVMBuildICmp(k->b, LLVMIntSLT, from, end, "");
    LLVMBuildCondBr(k->b, any, l->head, l->exit);
    LLVMPositionBuilderAtEnd(k->b, l->exit);
    for (unsigned j = 0; j < n; j++) {
      l->phi[j] = LLVMBuildPhi(k->b, LLVMTypeOf(v[j]), "");
      LLVMAddIncoming(l->phi[j], &v[j], &in, 1);
    }
  } else {
    LLVMBuildBr(k->b, l->head);
  }
  scope_push(k, l->head);
  l->i = LLVMBuildPhi(k->b, k->m->i64, "i");
  LLVMAddIncoming(l->i, &from, &in, 1);
  for (unsigned j = 0; j < n; j++) {
    LLVMValueRef phi = LLVMBuildPhi(k->b, LLVMTypeOf(v[j]), "");
    LLVMAddIncoming(phi, &v[j], &in, 1);
    v[j] = phi;
  }
}

/* The phis of the head are its first instructions: i, then the carried values. */
void loop_close(Kernel *k, Loop *l, LLVMValueRef *v) {
  k_go(k, k->scope);
  LLVMBasicBlockRef latch = k->block;
  LLVMValueRef next = k_plus(k, l->i, l->step);
  LLVMValueRef more = LLVMBuildICmp(k->b, LLVMIntSLT, next, l->end, "");
  LLVMBuildCondBr(k->b, more, l->head, l->exit);
  LLVMAddIncoming(l->i, &next, &latch, 1);
  LLVMValueRef phi = l->i;
  for (unsigned j = 0; j < l->n; j++) {
    phi = LLVMGetNextInstruction(phi);
    LLVMAddIncoming(phi, &v[j], &latch, 1);
    if (!l->guard) continue;
    LLVMAddIncoming(l->phi[j], &v[j], &latch, 1);
    v[j] = l->phi[j];
  }
  scope_pop(k, l->exit);
}

/* ---- branches -------------------------------------------------------------------------------- */

LLVMBasicBlockRef branch_open(Kernel *k, LLVMValueRef cond) {
  jump_inside(k);
  LLVMBasicBlockRef body = new_block(k, "then"), exit = new_block(k, "exit");
  LLVMBuildCondBr(k->b, cond, body, exit);
  scope_push(k, body);
  return exit;
}

void branch_close(Kernel *k, LLVMBasicBlockRef exit) {
  k_go(k, k->scope);
  LLVMBuildBr(k->b, exit);
  scope_pop(k, exit);
}

/* ---- straight on: a scope whose indices are forgotten at its end ----------------------------- */

void inner_open(Kernel *k) {
  jump_inside(k);
  scope_push(k, k->block);
}

void inner_close(Kernel *k) { scope_pop(k, k->block); }

/* ---- threads --------------------------------------------------------------------------------- */

LLVMValueRef k_is_last_thread(Kernel *k) {
  LLVMValueRef next = k_plus(k, k->tid, 1);
  return LLVMBuildICmp(k->b, LLVMIntEQ, next, k->threads, "");
}

static LLVMValueRef share_start(Kernel *k, LLVMValueRef t, int64_t units, int64_t unit) {
  LLVMValueRef all = k_times(k, t, units);
  LLVMValueRef first = LLVMBuildUDiv(k->b, all, k->threads, "");
  return k_times(k, first, unit);
}

void k_share(Kernel *k, int64_t n, int64_t unit, LLVMValueRef *from, LLVMValueRef *end) {
  LLVMValueRef next = k_plus(k, k->tid, 1);
  *from = share_start(k, k->tid, n / unit, unit);
  *end = share_start(k, next, n / unit, unit);
  if (n % unit) *end = LLVMBuildSelect(k->b, k_is_last_thread(k), k_int(k, n), *end, "");
}
