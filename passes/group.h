/* group.h: what group.c and its remarks share: a block's nodes, how they read each other, and which
 * of them are one kernel.  Private to the two. */
#ifndef PASSES_GROUP_H
#define PASSES_GROUP_H

#include "passes/pass.h"

typedef enum EdgeKind {
  EDGE_DIRECT,
  EDGE_ROW,     /* a row's value, broadcast along the trailing axes */
  EDGE_GATHER,  /* read at an index known at run time */
  EDGE_OPERAND, /* into a matmul */
  EDGE_OTHER    /* through a transpose or another broadcast */
} EdgeKind;

typedef struct Group {
  uint8_t form;
  bool trailing; /* of a reduce: along the trailing axes */
  uint8_t nred;  /* axes it reduces */
  uint8_t count; /* of reductions in it */
  Type space;
} Group;

typedef struct Edge {
  uint32_t from; /* position of the producer */
  ValueId value;
  EdgeKind kind;
} Edge;

typedef VEC(Edge) Edges;
typedef VEC(uint32_t) Positions;

typedef struct Grouping {
  Graph *g;
  Arena *arena;
  BlockId block;
  const char *entry; /* its name, for remarks */
  uint32_t n;        /* nodes of the block, addressed by position */
  NodeId *node;
  uint32_t *pos; /* by NodeId */
  bool *inlined, *in_memory;
  uint32_t *parent; /* union-find */
  Group *group;     /* of a root */
  Edges *in;        /* edges into a position, through inlined nodes */
  Positions *out;   /* positions that read it */
  Positions *member;
  uint32_t *seen, search; /* by root: the last search for a path that came by */
  Positions todo;         /* of that search */
  /* while kernels are written */
  BlockId fresh;
  bool *written, *used_outside; /* by root; by value */
  ValueId *outer, *inner;       /* by value: in the entry's new block; in the kernel at hand */
  uint32_t values;
} Grouping;

/* group.c */
Node *group_node(const Grouping *s, uint32_t p);
uint32_t group_root(Grouping *s, uint32_t p);
Positions group_in_order(const Grouping *s, uint32_t root); /* its members by position */
/* Whose place is that of a kernel of these, in order. */
const Node *group_anchor(const Grouping *s, const Positions *m, uint8_t form);
/* Why what x reads over e is not computed in x's kernel; NULL: nothing is in the way, and *both is
 * the kernel of both. */
const char *group_obstacle(Grouping *s, uint32_t x, Edge e, Group *both);

/* group_remarks.c: -Rpass=fusion and -Rpass-missed=fusion, when all groups stand. */
void group_remarks(Grouping *s, Diag *diag);

#endif
