/* cpu.c: a Program to code: its kernels and entries, its tables, LLVM's passes, the output.
 *
 * Most of the time goes into LLVM, kernel by kernel, so several parts are made by as many threads,
 * each with an LLVM context, a module and an arena of its own.  All parts look at all kernels in
 * the same order and so agree on who emits which; part 0 has the entries and tables.
 *
 * A level repeats only kernels that it makes better (kernel.c), and one that makes none better
 * (avx512bf16 where nothing multiplies bf16) is left out.
 */
#include "codegen/cpu/emit.h"

#include <pthread.h>

typedef struct Part {
  const Program *p;
  const CpuTarget *t;
  const CpuOptions *o;
  unsigned number;
  Arena arena;
  CpuCode code;
  const char *why;
  bool ok;
} Part;

/* Kernels come before entries, which place things behind the kernels' scratch. */
static void emit_kernels(Module *m) {
  for (uint32_t i = 0; i < m->g->entries.len; i++)
    for (uint32_t j = 0; j < m->p->entries[i].steps.len; j++) {
      ProgramStep s = m->p->entries[i].steps.at[j];
      if (s.kind == STEP_kernel) kernel_function(m, s.node, entry_batch(&m->g->entries.at[i]));
    }
  m->scratch_bytes = (m->scratch_bytes + BUFFER_ALIGN - 1) / BUFFER_ALIGN * BUFFER_ALIGN;
}

/* What runs once is the lowest level's in all. */
static LevelCode emit_entries(Module *m, const LevelCode *lowest) {
  LLVMValueRef *entries = NEW_ARRAY(m->arena, LLVMValueRef, m->g->entries.len);
  for (uint32_t i = 0; i < m->g->entries.len; i++) {
    bool once = lowest && !entry_batch(&m->g->entries.at[i]);
    entries[i] = once ? lowest->entries[i] : entry_function(m, i);
  }
  LevelCode code = {m->level, entries, m->slot_bytes};
  if (lowest && lowest->scratch_bytes > code.scratch_bytes)
    code.scratch_bytes = lowest->scratch_bytes;
  return code;
}

static void emit_levels(Module *m) {
  LevelCode code[CPU_MOST_LEVELS];
  unsigned n = 0;
  for (unsigned i = 0; i < m->target->n; i++) {
    uint32_t before = m->kernels.len;
    m->level = &m->target->level[i];
    m->scratch_bytes = m->slot_bytes = 0;
    emit_kernels(m);
    if (m->part || (i && m->kernels.len == before)) continue;
    code[n] = emit_entries(m, n ? code : NULL);
    n++;
  }
  m->level = m->target->level; /* what runs before the CPU is known: the lowest's */
  if (m->part == 0) tables_emit(m, code, n);
}

static void compile_part(Part *part) {
  LLVMTargetMachineRef tm = target_machine(part->t, part->o->opt, &part->why);
  if (!tm) return;
  Module m = {
      .arena = &part->arena, .p = part->p, .g = part->p->g, .target = part->t, .o = part->o};
  m.sites = NEW_ARRAY(m.arena, Sites, m.g->entries.len);
  m.part = part->number;
  m.keys.arena = m.arena;
  m.scalars = scalars_parse(m.arena);
  module_init(&m, tm);
  emit_levels(&m);
  part->ok = module_optimize(&m, tm, &part->why) && module_write(&m, tm, &part->code, &part->why);
  LLVMDisposeModule(m.mod);
  LLVMContextDispose(m.ctx);
  LLVMDisposeTargetMachine(tm);
}

static void *run_part(void *part) {
  compile_part(part);
  return NULL;
}

/* A part without a thread of its own is made by ours. */
static void run_all(Part *part, unsigned n) {
  pthread_t thread[CPU_MOST_PARTS];
  bool started[CPU_MOST_PARTS] = {0};
  for (unsigned i = 1; i < n; i++)
    started[i] = pthread_create(&thread[i], NULL, run_part, &part[i]) == 0;
  for (unsigned i = 0; i < n; i++) {
    if (started[i]) pthread_join(thread[i], NULL);
    else compile_part(&part[i]);
  }
}

bool cpu_compile(const Program *p, const CpuTarget *t, const CpuOptions *o, Arena *arena,
                 CpuCode *code, const char **why) {
  Part part[CPU_MOST_PARTS];
  CpuOptions used = *o;
  bool ok = true;
  if (o->parts < 1 || o->output != CPU_OBJECT) used.parts = 1;
  if (o->parts > CPU_MOST_PARTS) used.parts = CPU_MOST_PARTS;
  target_init(t, o->opt);
  for (unsigned i = 0; i < used.parts; i++) part[i] = (Part){p, t, &used, i, {0}, {0}, NULL, false};
  run_all(part, used.parts);
  for (unsigned i = 0; i < used.parts; i++) {
    code[i] = (CpuCode){arena_text(arena, part[i].code.at, part[i].code.size), part[i].code.size};
    if (!part[i].ok) *why = arena_printf(arena, "%s", part[i].why);
    ok = ok && part[i].ok;
    arena_free(&part[i].arena);
  }
  return ok;
}
