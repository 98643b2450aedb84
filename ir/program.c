/* program.c: what there is to know of a Program's buffers and steps.
 *
 * A buffer inside a loop may move with the iteration; how far it reaches and what it is aligned to
 * hold for all iterations.  The plan, the code and the report of memory ask here, and agree. */
#include "ir/program.h"

uint64_t buffer_end(const Program *p, ValueId v) {
  uint64_t end = p->buffer[v].at + value_bytes(p->g, v);
  for (const Move *m = p->buffer[v].moves; m; m = m->more)
    end += (uint64_t)(node_int(&p->g->nodes.at[m->loop], AT_trip, 1) - 1) * m->stride;
  return end;
}

uint64_t buffer_align(Buffer b) {
  uint64_t all = b.at | BUFFER_ALIGN;
  for (const Move *m = b.moves; m; m = m->more) all |= m->stride;
  return all & (~all + 1);
}

int64_t kernel_batch(const Graph *g, NodeId kernel, int64_t batch) {
  for (NodeId n = g->blocks.at[g->nodes.at[kernel].block].owner; n != NO_ID;
       n = g->blocks.at[g->nodes.at[n].block].owner)
    if (node_attr(&g->nodes.at[n], AT_rows)) return node_int(&g->nodes.at[n], AT_rows, 0);
  return batch;
}

uint32_t program_largest_entry(const Program *p) {
  uint32_t most = 0;
  for (uint32_t i = 1; i < p->g->entries.len; i++)
    if (p->entries[i].arena_bytes > p->entries[most].arena_bytes) most = i;
  return most;
}

uint32_t program_close(const ProgramEntry *e, uint32_t open) {
  uint32_t depth = 0;
  for (uint32_t i = open;; i++) {
    depth += e->steps.at[i].kind == STEP_open;
    depth -= e->steps.at[i].kind == STEP_close;
    if (!depth) return i;
  }
}
