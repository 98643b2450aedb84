/* test_verify.c: graphs that no text can say, broken in memory, each refused by its message.  What
 * text can say is in tests/lit/ir/verify-*.ir; verify-messages.test sees to it that no message is
 * in neither.
 */
#include "tests/unit/pass_fixture.h"

static const char text[] = "graph \"t\"\n"
                           "entry @f infer batch 2 (%x: f32[4] = input \"x\") {\n"
                           "  %0 = neg %x {prec=bf16} : f32[4]\n"
                           "  %1 = kernel %0 {form=map, prec=f32} : f32[4] (%a: f32[4]) {\n"
                           "    %b = neg %a : f32[4]\n"
                           "    yield %b\n"
                           "  }\n"
                           "  return value \"y\" = %1\n"
                           "}\n";

/* ---- what is there, and how it is broken ------------------------------------------------------
 */

static Block *body(Graph *g) { return &g->blocks.at[g->entries.at[0].body]; }
static Node *node(Graph *g, uint32_t i) { return &g->nodes.at[body(g)->nodes.at[i]]; }
static Node *kernel(Graph *g) { return node(g, 1); }
static Value *argument(Graph *g) { return &g->values.at[body(g)->args.at[0]]; }

static void drop_operands(Graph *g) { node(g, 0)->nops = 0; }
static void drop_results(Graph *g) { node(g, 0)->nres = 0; }
static void drop_text(Graph *g) { kernel(g)->attrs[0].s = NULL; }
static void swap_attributes(Graph *g) {
  Attr first = kernel(g)->attrs[0];
  kernel(g)->attrs[0] = kernel(g)->attrs[1];
  kernel(g)->attrs[1] = first;
}
static void add_attribute(Graph *g) {
  Attr *axis = arena_copy(g->arena, &(Attr){.key = AT_axis}, sizeof *axis);
  node(g, 0)->attrs = axis;
}
static void read_beyond(Graph *g) { node(g, 0)->ops[0] = g->values.len; }
static void give_beyond(Graph *g) { node(g, 0)->res = g->values.len; }
static void steal_result(Graph *g) { node(g, 0)->res = kernel(g)->res; }
static void rename_argument(Graph *g) { argument(g)->index = 1; }
static void place_beyond(Graph *g) { body(g)->nodes.at[0] = g->nodes.len; }
static void place_twice(Graph *g) { body(g)->nodes.at[1] = body(g)->nodes.at[0]; }
static void own_beyond(Graph *g) { kernel(g)->blocks[0] = g->blocks.len; }
/* Loops in loops, behind the last node. */
static void nest(Graph *g) {
  Attr attrs[] = {attr_int(AT_trip, 1), attr_int(AT_carries, 0), attr_int(AT_slices, 0)};
  BlockId block = g->entries.at[0].body;
  for (int depth = 0; depth <= MAX_NESTING; depth++) {
    NodeId loop = graph_add_node(g, block, OP_loop, (Loc){0}, 0, NULL, 0, NULL, 3, attrs);
    block = graph_add_block(g, loop);
    g->nodes.at[loop].blocks = arena_copy(g->arena, &block, sizeof block);
    g->nodes.at[loop].nblocks = 1;
    graph_add_arg(g, block, type_scalar(DT_i32));
  }
}
static void tag_beyond(Graph *g) { argument(g)->type.rows = 1; }
static void unmake_batch(Graph *g) { g->entries.at[0].batch = -1; }
static void drop_port(Graph *g) { g->entries.at[0].args.len = 0; }
static void drop_name(Graph *g) { g->entries.at[0].args.at[0].name = NULL; }
static void train_back(Graph *g) { g->train.steps = -1; }
static void split_all(Graph *g) { g->split = (DataSplit){.kind = SPLIT_last, .fraction = 1}; }

typedef struct Case {
  void (*make)(Graph *);
  const char *message;
} Case;

static const Case cases[] = {
    {drop_operands, "wrong number of operands"},
    {drop_results, "wrong number of results"},
    {drop_text, "attribute `form` is empty"},
    {swap_attributes, "attributes are not sorted"},
    {add_attribute, "an attribute that neg does not have"},
    {read_beyond, "a value that does not exist"},
    {give_beyond, "results that do not exist"},
    {steal_result, "result 0 names another node"},
    {rename_argument, "argument 0 of a block names another"},
    {place_beyond, "a block holds a node that does not exist"},
    {place_twice, "the node stands in two blocks, or names another"},
    {own_beyond, "a block that does not exist or has another owner"},
    {nest, "blocks are nested more than 32 deep"},
    {tag_beyond, "`rows` is on an axis that does not exist"},
    {unmake_batch, "an entry without name or kind, or with a negative batch"},
    {drop_port, "arguments or results without a port"},
    {drop_name, "a port without name or role"},
    {train_back, "train: a negative count"},
    {split_all, "split: a fraction above 0 and below 1 is wanted"},
};

static void test_broken(Tally *t, const Case *c) {
  PassFixture f = {0};
  Text why = {.arena = &f.arena};
  f.strings.arena = &f.arena;
  diag_init(&f.diag, &f.arena, stdout);
  f.g =
      graph_parse(&f.arena, &f.strings, &f.diag, diag_source(&f.diag, "test", text, strlen(text)));
  expect(t, f.g && !graph_verify(f.g, &why), "the graph is sound: %s", why.at ? why.at : "");
  c->make(f.g);
  bool refused = graph_verify(f.g, &why) && why.at && strstr(why.at, c->message);
  expect(t, refused, "%s: got %s", c->message, why.at ? why.at : "nothing");
  fixture_end(&f);
}

/* Whoever builds such a node states its type. */
static void test_given(Tally *t) {
  static const Op given[] = {OP_iota, OP_loop, OP_kernel};
  Arena arena = {0};
  Strings strings = {.arena = &arena};
  Graph *g = graph_new(&arena, &strings, "t", "");
  for (size_t i = 0; i < sizeof given / sizeof *given; i++) {
    Type type;
    Text why = {.arena = &arena};
    bool known = shape_infer(g, given[i], 0, NULL, 0, NULL, &type, &why);
    expect(t, !known && strstr(why.at, "type must be given"), "%s", op_name[given[i]]);
  }
  arena_free(&arena);
}

int main(void) {
  Tally t = {0};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) test_broken(&t, &cases[i]);
  test_given(&t);
  return tally_end(&t);
}
