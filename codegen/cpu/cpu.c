/* cpu.c: a Program to code: its kernels and entries, its tables, LLVM's passes, the output. */
#include "codegen/cpu/emit.h"

static void emit_all(Module *m) {
  LLVMValueRef *entries = NEW_ARRAY(m->arena, LLVMValueRef, m->g->entries.len);
  for (uint32_t i = 0; i < m->g->entries.len; i++) entries[i] = entry_function(m, i);
  tables_emit(m, entries);
}

bool cpu_compile(const Program *p, const CpuTarget *t, const CpuOptions *o, Arena *arena,
                 CpuCode *code, const char **why) {
  LLVMTargetMachineRef tm = target_machine(t, o->opt, why);
  if (!tm) return false;
  Module m = {.arena = arena, .p = p, .g = p->g, .target = t, .o = o};
  m.keys.arena = arena;
  m.scalars = scalars_parse(arena);
  module_init(&m, tm);
  emit_all(&m);
  bool ok = module_optimize(&m, tm, why) && module_write(&m, tm, code, why);
  LLVMDisposeModule(m.mod);
  LLVMContextDispose(m.ctx);
  LLVMDisposeTargetMachine(tm);
  return ok;
}
