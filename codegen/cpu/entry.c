/* entry.c: one function an entry, void(const mp_frame *, i32 tid, i32 threads).
 *
 * Every thread of the team runs it: the launches in order, a meeting where the Program says so.
 * Kernels that are not shared out (part = -1) are called by thread 0 alone, as if it were the whole
 * team.  A kernel in two parts has a meeting of its own between them; what the threads leave for
 * the second lies in thread 0's scratch, behind what gemms use, each launch's at its own place: the
 * others go on while thread 0 reads.  Offsets are constants, so a call is a few additions.
 *
 * A loop is run by every thread for itself, with an index of its own on its stack; it is the
 * meetings inside that keep them together.
 */
#include "codegen/cpu/emit.h"

#include <stddef.h>

/* A loop being emitted: its index as a number and as a kernel's operand. */
typedef struct Turn {
  NodeId loop;
  LLVMValueRef turn, i, place, rows; /* rows: those around it */
  LLVMBasicBlockRef head;
} Turn;

typedef struct EntryFn {
  Module *m;
  LLVMBuilderRef b;
  LLVMValueRef fn, tid, threads, state, arena, scratch, shared, rows, team;
  LLVMValueRef replaying, replay; /* i1; a pointer */
  const Sites *sites;
  uint64_t slots; /* offset of the next launch's place in `shared` */
  VEC(Turn) open; /* loops, innermost last */
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
  e->replay = field(e, m->ptr, offsetof(mp_frame, replay));
  e->replaying = LLVMBuildICmp(e->b, LLVMIntNE, e->replay, LLVMConstNull(m->ptr), "replaying");
  LLVMValueRef stride = field(e, m->i64, offsetof(mp_frame, scratch_stride));
  LLVMValueRef mine = LLVMBuildMul(e->b, LLVMBuildZExt(e->b, e->tid, m->i64, ""), stride, "");
  e->shared = field(e, m->ptr, offsetof(mp_frame, scratch));
  e->scratch = LLVMBuildGEP2(e->b, m->i8, e->shared, &mine, 1, "");
}

static Turn *turn_of(EntryFn *e, NodeId loop) {
  Turn *t = e->open.at;
  while (t->loop != loop) t++;
  return t;
}

static LLVMValueRef buffer(EntryFn *e, ValueId v) {
  Buffer b = e->m->p->buffer[v];
  if (b.space == SPACE_INDEX) return turn_of(e, b.moves->loop)->place;
  LLVMValueRef p = at(e, b.space == SPACE_STATE ? e->state : e->arena, b.at);
  for (const Move *m = b.moves; m; m = m->more) {
    LLVMValueRef stride = module_int(e->m, (int64_t)m->stride);
    LLVMValueRef by = LLVMBuildMul(e->b, turn_of(e, m->loop)->i, stride, "");
    p = LLVMBuildGEP2(e->b, e->m->i8, p, &by, 1, "");
  }
  return p;
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

static void meet(EntryFn *e) { module_call(e->m, e->b, "mp_barrier", 1, &e->team); }

/* ---- replays: all threads have met where others' parts are looked at ------------------------- */

static void probe(EntryFn *e, ValueId v) {
  Module *m = e->m;
  if (e->sites->of[v] == NO_ID) return;
  LLVMValueRef site = LLVMConstInt(m->i32, e->sites->of[v], false);
  module_call(m, e->b, "mp_probe", 4, (LLVMValueRef[]){e->replay, e->tid, site, buffer(e, v)});
}

/* From here to probes_close the code is a replay's. */
static LLVMBasicBlockRef probes_open(EntryFn *e) {
  LLVMBasicBlockRef look = block(e), next = block(e);
  LLVMBuildCondBr(e->b, e->replaying, look, next);
  LLVMPositionBuilderAtEnd(e->b, look);
  return next;
}

static void probes_close(EntryFn *e, LLVMBasicBlockRef next) {
  LLVMBuildBr(e->b, next);
  LLVMPositionBuilderAtEnd(e->b, next);
}

/* In the order of the sites: what is computed of another comes behind it. */
static void probe_results(EntryFn *e, const Node *n, bool alone) {
  uint32_t first = NO_ID, end = 0;
  for (uint32_t i = 0; i < n->nres; i++) {
    uint32_t site = e->sites->of[n->res + i];
    if (site == NO_ID) continue;
    if (site < first) first = site;
    if (site >= end) end = site + 1;
  }
  if (first == NO_ID) return;
  LLVMBasicBlockRef next = probes_open(e);
  if (!alone) meet(e);
  for (uint32_t site = first; site < end; site++)
    for (uint32_t i = 0; i < n->nres; i++)
      if (e->sites->of[n->res + i] == site) probe(e, n->res + i);
  if (!alone) meet(e);
  probes_close(e, next);
}

static void probe_arguments(EntryFn *e, const Block *body) {
  if (!e->sites->arguments) return;
  LLVMBasicBlockRef next = probes_open(e);
  for (uint32_t i = 0; i < body->args.len; i++) probe(e, body->args.at[i]);
  meet(e);
  probes_close(e, next);
}

static bool is_alone(const Module *m, ProgramStep s) {
  return s.kind == STEP_kernel && node_int(&m->g->nodes.at[s.node], AT_part, 0) < 0;
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
  for (; i < p->steps.len && is_alone(m, p->steps.at[i]); i++) {
    if (i > first && p->steps.at[i].barrier) break;
    NodeId id = p->steps.at[i].node;
    call(e, kernel_function(e->m, id, batch).fn, &m->g->nodes.at[id], e->scratch, true);
    probe_results(e, &m->g->nodes.at[id], true);
  }
  alone_close(e, next);
  return i;
}

/* Threads that are an iteration ahead must not write the slots that thread 0 still reads. */
static void run_shared(EntryFn *e, ProgramStep step, int64_t batch) {
  Module *m = e->m;
  const Node *n = &m->g->nodes.at[step.node];
  KernelFn f = kernel_function(m, step.node, batch);
  if (!f.finish) {
    call(e, f.fn, n, e->scratch, false);
    probe_results(e, n, false);
    return;
  }
  LLVMValueRef slots = at(e, e->shared, e->slots);
  e->slots += (f.slot_bytes + BUFFER_ALIGN - 1) / BUFFER_ALIGN * BUFFER_ALIGN;
  if (e->open.len && !step.barrier) meet(e);
  call(e, f.fn, n, slots, false);
  meet(e);
  LLVMBasicBlockRef next = alone_open(e);
  call(e, f.finish, n, slots, true);
  alone_close(e, next);
  probe_results(e, n, false);
}

/* In the function's first block, so that it is one place on the stack. */
static LLVMValueRef index_place(EntryFn *e) {
  LLVMBuilderRef b = LLVMCreateBuilderInContext(e->m->ctx);
  LLVMBasicBlockRef entry = LLVMGetEntryBasicBlock(e->fn);
  LLVMPositionBuilder(b, entry, LLVMGetFirstInstruction(entry));
  LLVMTypeRef t = LLVMArrayType(e->m->i8, BUFFER_ALIGN + BUFFER_SLACK);
  LLVMValueRef place = LLVMBuildAlloca(b, t, "index");
  LLVMSetAlignment(place, BUFFER_ALIGN);
  LLVMDisposeBuilder(b);
  return place;
}

static LLVMValueRef smaller(EntryFn *e, LLVMValueRef x, LLVMValueRef y) {
  return LLVMBuildSelect(e->b, LLVMBuildICmp(e->b, LLVMIntSLT, x, y, ""), x, y, "");
}

/* clamp(rows - i · batch, 0, batch), where the loop takes the real rows apart. */
static void take_rows(EntryFn *e, const Turn *t) {
  int64_t batch = node_int(&e->m->g->nodes.at[t->loop], AT_rows, 0);
  if (!batch) return;
  LLVMValueRef own = module_int(e->m, batch);
  LLVMValueRef done = smaller(e, LLVMBuildMul(e->b, t->i, own, ""), t->rows);
  e->rows = smaller(e, LLVMBuildSub(e->b, t->rows, done, ""), own);
}

static void loop_begin(EntryFn *e, NodeId loop) {
  LLVMBasicBlockRef before = LLVMGetInsertBlock(e->b);
  Turn t = {.loop = loop, .place = index_place(e), .rows = e->rows, .head = block(e)};
  LLVMValueRef zero = module_int(e->m, 0);
  LLVMBuildBr(e->b, t.head);
  LLVMPositionBuilderAtEnd(e->b, t.head);
  t.turn = t.i = LLVMBuildPhi(e->b, e->m->i64, "turn");
  LLVMAddIncoming(t.turn, &zero, &before, 1);
  const Node *n = &e->m->g->nodes.at[loop];
  LLVMValueRef last = module_int(e->m, node_int(n, AT_trip, 0) - 1);
  if (node_bool(n, AT_reverse)) t.i = LLVMBuildSub(e->b, last, t.turn, "");
  const Block *body = &e->m->g->blocks.at[n->blocks[0]];
  unsigned bits = 8u * dtype_bytes[value_type(e->m->g, body->args.at[0]).dtype];
  LLVMTypeRef number = LLVMIntTypeInContext(e->m->ctx, bits);
  LLVMBuildStore(e->b, LLVMBuildIntCast2(e->b, t.i, number, true, ""), t.place);
  take_rows(e, &t);
  vec_push(e->m->arena, &e->open, t);
}

static void loop_end(EntryFn *e) {
  Turn t = e->open.at[--e->open.len];
  e->rows = t.rows;
  int64_t trip = node_int(&e->m->g->nodes.at[t.loop], AT_trip, 0);
  LLVMBasicBlockRef here = LLVMGetInsertBlock(e->b), next = block(e);
  LLVMValueRef more = LLVMBuildAdd(e->b, t.turn, module_int(e->m, 1), "");
  LLVMAddIncoming(t.turn, &more, &here, 1);
  LLVMValueRef on = LLVMBuildICmp(e->b, LLVMIntSLT, more, module_int(e->m, trip), "");
  LLVMBuildCondBr(e->b, on, t.head, next);
  LLVMPositionBuilderAtEnd(e->b, next);
}

static void steps(EntryFn *e, const ProgramEntry *p, int64_t batch) {
  for (uint32_t i = 0; i < p->steps.len;) {
    ProgramStep s = p->steps.at[i];
    if (s.kind == STEP_open) loop_begin(e, s.node), i++;
    else if (s.kind == STEP_close) loop_end(e), i++;
    else {
      if (s.barrier) meet(e);
      if (is_alone(e->m, s)) i = run_alone(e, p, i, batch);
      else run_shared(e, s, batch), i++;
    }
  }
}

LLVMValueRef entry_function(Module *m, uint32_t index) {
  const Entry *entry = &m->g->entries.at[index];
  LLVMTypeRef params[] = {m->ptr, m->i32, m->i32};
  EntryFn e = {.m = m, .b = LLVMCreateBuilderInContext(m->ctx), .slots = m->scratch_bytes};
  const char *name = arena_printf(m->arena, "entry.%s%s", entry->name, level_suffix(m));
  e.fn = LLVMAddFunction(m->mod, name, LLVMFunctionType(m->none, params, 3, false));
  LLVMSetLinkage(e.fn, LLVMInternalLinkage);
  module_attributes(m, e.fn);
  LLVMPositionBuilderAtEnd(e.b, block(&e));
  load_frame(&e);
  e.sites = sites_of(m, index);
  probe_arguments(&e, &m->g->blocks.at[entry->body]);
  steps(&e, &m->p->entries[index], entry_batch(entry));
  LLVMBuildRetVoid(e.b);
  LLVMDisposeBuilder(e.b);
  if (e.slots > m->slot_bytes) m->slot_bytes = e.slots;
  return e.fn;
}
