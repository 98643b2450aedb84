/* entry.c: one function an entry, void(const mp_frame *, i32 tid, i32 threads).
 *
 * Every thread of the team runs it: the launches in order, a meeting where the Program says so.
 * Kernels that are not shared out (part = -1) are called by thread 0 alone, as if it were the whole
 * team.  Offsets are constants, so a call is a few additions.
 */
#include "codegen/cpu/emit.h"
#include "runtime/model.h"

#include <stddef.h>

typedef struct EntryFn {
  Module *m;
  LLVMBuilderRef b;
  LLVMValueRef fn, tid, threads, state, arena, scratch, rows, team;
} EntryFn;

static LLVMValueRef at(EntryFn *e, LLVMValueRef base, uint64_t offset) {
  LLVMValueRef o = module_int(e->m, (int64_t)offset);
  return offset ? LLVMBuildGEP2(e->b, e->m->i8, base, &o, 1, "") : base;
}

static LLVMValueRef field(EntryFn *e, LLVMTypeRef t, size_t offset) {
  return LLVMBuildLoad2(e->b, t, at(e, LLVMGetParam(e->fn, 0), offset), "");
}

static void load_frame(EntryFn *e) {
  const Module *m = e->m;
  e->tid = LLVMGetParam(e->fn, 1);
  e->threads = LLVMGetParam(e->fn, 2);
  e->state = field(e, m->ptr, offsetof(mp_frame, state));
  e->arena = field(e, m->ptr, offsetof(mp_frame, arena));
  e->rows = field(e, m->i64, offsetof(mp_frame, rows));
  e->team = field(e, m->ptr, offsetof(mp_frame, team));
  LLVMValueRef stride = field(e, m->i64, offsetof(mp_frame, scratch_stride));
  LLVMValueRef mine = LLVMBuildMul(e->b, LLVMBuildZExt(e->b, e->tid, m->i64, ""), stride, "");
  LLVMValueRef base = field(e, m->ptr, offsetof(mp_frame, scratch));
  e->scratch = LLVMBuildGEP2(e->b, m->i8, base, &mine, 1, "");
}

static LLVMValueRef buffer(EntryFn *e, ValueId v) {
  Buffer b = e->m->p->buffer[v];
  return at(e, b.space == SPACE_STATE ? e->state : e->arena, b.at);
}

static void call(EntryFn *e, LLVMValueRef fn, const Node *n, bool alone) {
  Module *m = e->m;
  uint32_t count = 4 + n->nops + n->nres, i = 4;
  LLVMValueRef *args = NEW_ARRAY(m->arena, LLVMValueRef, count);
  args[0] = alone ? LLVMConstInt(m->i32, 0, false) : e->tid;
  args[1] = alone ? LLVMConstInt(m->i32, 1, false) : e->threads;
  args[2] = e->rows;
  args[3] = e->scratch;
  for (uint32_t j = 0; j < n->nops; j++) args[i++] = buffer(e, n->ops[j]);
  for (uint32_t j = 0; j < n->nres; j++) args[i++] = buffer(e, n->res + j);
  LLVMBuildCall2(e->b, LLVMGlobalGetValueType(fn), fn, args, count, "");
}

static LLVMBasicBlockRef block(EntryFn *e) {
  return LLVMAppendBasicBlockInContext(e->m->ctx, e->fn, "");
}

static bool is_alone(const Module *m, Launch l) {
  return node_int(&m->g->nodes.at[l.kernel], AT_part, 0) < 0;
}

/* Launches from i that thread 0 does without a meeting in between: one branch for all of them. */
static uint32_t alone(EntryFn *e, const ProgramEntry *p, uint32_t i, int64_t batch) {
  Module *m = e->m;
  LLVMBasicBlockRef mine = block(e), next = block(e);
  LLVMValueRef zero = LLVMConstInt(m->i32, 0, false);
  LLVMBuildCondBr(e->b, LLVMBuildICmp(e->b, LLVMIntEQ, e->tid, zero, ""), mine, next);
  LLVMPositionBuilderAtEnd(e->b, mine);
  uint32_t first = i;
  for (; i < p->launches.len && is_alone(m, p->launches.at[i]); i++) {
    if (i > first && p->launches.at[i].barrier) break;
    NodeId id = p->launches.at[i].kernel;
    call(e, kernel_function(m, id, batch), &m->g->nodes.at[id], true);
  }
  LLVMBuildBr(e->b, next);
  LLVMPositionBuilderAtEnd(e->b, next);
  return i;
}

static void launches(EntryFn *e, const ProgramEntry *p, int64_t batch) {
  Module *m = e->m;
  for (uint32_t i = 0; i < p->launches.len;) {
    Launch l = p->launches.at[i];
    if (l.barrier) module_call(m, e->b, "mp_barrier", 1, &e->team);
    if (is_alone(m, l)) {
      i = alone(e, p, i, batch);
      continue;
    }
    call(e, kernel_function(m, l.kernel, batch), &m->g->nodes.at[l.kernel], false);
    i++;
  }
}

LLVMValueRef entry_function(Module *m, uint32_t index) {
  const Entry *entry = &m->g->entries.at[index];
  LLVMTypeRef params[] = {m->ptr, m->i32, m->i32};
  EntryFn e = {.m = m, .b = LLVMCreateBuilderInContext(m->ctx)};
  const char *name = arena_printf(m->arena, "entry.%s", entry->name);
  e.fn = LLVMAddFunction(m->mod, name, LLVMFunctionType(m->none, params, 3, false));
  LLVMSetLinkage(e.fn, LLVMInternalLinkage);
  module_attributes(m, e.fn);
  LLVMPositionBuilderAtEnd(e.b, block(&e));
  load_frame(&e);
  launches(&e, &m->p->entries[index], entry->batch);
  LLVMBuildRetVoid(e.b);
  LLVMDisposeBuilder(e.b);
  return e.fn;
}
