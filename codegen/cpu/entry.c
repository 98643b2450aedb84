/* entry.c: one function an entry, void(const mp_frame *, i32 tid, i32 threads).
 *
 * Every thread of the team runs it: the launches in order, a meeting where the Program says so.
 * Kernels that are not shared out (part = -1) are called by thread 0 alone, as if it were the whole
 * team.  A kernel in two parts has a meeting of its own between them; what the threads leave for
 * the second lies in thread 0's scratch, behind what gemms use, each launch's at its own place: the
 * others go on while thread 0 reads.  Offsets are constants, so a call is a few additions.
 */
#include "codegen/cpu/emit.h"
#include "runtime/model.h"

#include <stddef.h>

typedef struct EntryFn {
  Module *m;
  LLVMBuilderRef b;
  LLVMValueRef fn, tid, threads, state, arena, scratch, shared, rows, team;
  uint64_t slots; /* offset of the next launch's place in `shared` */
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
  e->shared = field(e, m->ptr, offsetof(mp_frame, scratch));
  e->scratch = LLVMBuildGEP2(e->b, m->i8, e->shared, &mine, 1, "");
}

static LLVMValueRef buffer(EntryFn *e, ValueId v) {
  Buffer b = e->m->p->buffer[v];
  return at(e, b.space == SPACE_STATE ? e->state : e->arena, b.at);
}

static void call(EntryFn *e, LLVMValueRef fn, const Node *n, LLVMValueRef scratch, bool alone) {
  Module *m = e->m;
  uint32_t count = 4 + n->nops + n->nres, i = 4;
  LLVMValueRef *args = NEW_ARRAY(m->arena, LLVMValueRef, count);
  args[0] = alone ? LLVMConstInt(m->i32, 0, false) : e->tid;
  args[1] = alone ? LLVMConstInt(m->i32, 1, false) : e->threads;
  args[2] = e->rows;
  args[3] = scratch;
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

/* From here to alone_close the code is thread 0's. */
static LLVMBasicBlockRef alone_open(EntryFn *e) {
  LLVMBasicBlockRef mine = block(e), next = block(e);
  LLVMValueRef zero = LLVMConstInt(e->m->i32, 0, false);
  LLVMBuildCondBr(e->b, LLVMBuildICmp(e->b, LLVMIntEQ, e->tid, zero, ""), mine, next);
  LLVMPositionBuilderAtEnd(e->b, mine);
  return next;
}

static void alone_close(EntryFn *e, LLVMBasicBlockRef next) {
  LLVMBuildBr(e->b, next);
  LLVMPositionBuilderAtEnd(e->b, next);
}

/* Launches from i that thread 0 does without a meeting in between; the first behind them. */
static uint32_t run_alone(EntryFn *e, const ProgramEntry *p, uint32_t i, int64_t batch) {
  const Module *m = e->m;
  LLVMBasicBlockRef next = alone_open(e);
  uint32_t first = i;
  for (; i < p->launches.len && is_alone(m, p->launches.at[i]); i++) {
    if (i > first && p->launches.at[i].barrier) break;
    NodeId id = p->launches.at[i].kernel;
    call(e, kernel_function(e->m, id, batch).fn, &m->g->nodes.at[id], e->scratch, true);
  }
  alone_close(e, next);
  return i;
}

static void meet(EntryFn *e) { module_call(e->m, e->b, "mp_barrier", 1, &e->team); }

static void run_shared(EntryFn *e, NodeId id, int64_t batch) {
  Module *m = e->m;
  const Node *n = &m->g->nodes.at[id];
  KernelFn f = kernel_function(m, id, batch);
  if (!f.finish) {
    call(e, f.fn, n, e->scratch, false);
    return;
  }
  LLVMValueRef slots = at(e, e->shared, e->slots);
  e->slots += (f.slot_bytes + BUFFER_ALIGN - 1) / BUFFER_ALIGN * BUFFER_ALIGN;
  call(e, f.fn, n, slots, false);
  meet(e);
  LLVMBasicBlockRef next = alone_open(e);
  call(e, f.finish, n, slots, true);
  alone_close(e, next);
}

static void launches(EntryFn *e, const ProgramEntry *p, int64_t batch) {
  for (uint32_t i = 0; i < p->launches.len;) {
    Launch l = p->launches.at[i];
    if (l.barrier) meet(e);
    if (is_alone(e->m, l)) i = run_alone(e, p, i, batch);
    else run_shared(e, l.kernel, batch), i++;
  }
}

LLVMValueRef entry_function(Module *m, uint32_t index) {
  const Entry *entry = &m->g->entries.at[index];
  LLVMTypeRef params[] = {m->ptr, m->i32, m->i32};
  EntryFn e = {.m = m, .b = LLVMCreateBuilderInContext(m->ctx), .slots = m->scratch_bytes};
  const char *name = arena_printf(m->arena, "entry.%s", entry->name);
  e.fn = LLVMAddFunction(m->mod, name, LLVMFunctionType(m->none, params, 3, false));
  LLVMSetLinkage(e.fn, LLVMInternalLinkage);
  module_attributes(m, e.fn);
  LLVMPositionBuilderAtEnd(e.b, block(&e));
  load_frame(&e);
  launches(&e, &m->p->entries[index], entry->batch);
  LLVMBuildRetVoid(e.b);
  LLVMDisposeBuilder(e.b);
  if (e.slots > m->slot_bytes) m->slot_bytes = e.slots;
  return e.fn;
}
