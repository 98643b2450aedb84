/* depfile.c: -MD: what the output was made of, as a rule of make, for build systems.
 *
 * The sources are those that diagnostics know: every file that was read, imports included, without
 * the library that mpcc carries.  An import gets an empty rule too, so that removing it stops no
 * build. */
#include "tools/tools.h"

#include <string.h>

/* make wants blanks, # and $ escaped. */
static void add_name(Text *t, const char *name) {
  for (; *name; name++) {
    if (*name == ' ' || *name == '#') text_add(t, "\\");
    if (*name == '$') text_add(t, "$");
    text_add_n(t, name, 1);
  }
}

bool depfile_write(Arena *arena, const char *path, const char *target, const Diag *diag) {
  Text t = {.arena = arena}, phony = {.arena = arena};
  add_name(&t, target);
  text_add(&t, ":");
  for (uint32_t i = 0; i < diag->sources.len; i++) {
    const Source *s = &diag->sources.at[i];
    if (s->built_in || !strcmp(s->name, "-")) continue;
    text_add(&t, " \\\n  ");
    add_name(&t, s->name);
    if (i == 0) continue;
    add_name(&phony, s->name); /* an import that was removed stops no build */
    text_add(&phony, ":\n");
  }
  text_add(&t, "\n");
  text_add(&t, phony.at ? phony.at : "");
  return output_write(path, t.at, t.len);
}
