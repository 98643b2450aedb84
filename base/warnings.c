/* warnings.c: warnings by name, and the words behind -W that switch them. */
#include "base/base.h"

#include <string.h>

static const struct {
  const char *name;
  bool shown;
  const char *meaning;
} table[WARNINGS] = {
#define WARNING(id, name, shown, meaning) {name, shown, meaning},
#include "base/warnings.def"
};

const char *warning_name(Warning w) { return table[w].name; }

void warnings_default(Diag *d) {
  for (int i = 0; i < WARNINGS; i++) d->level[i] = table[i].shown ? WARN_SAY : WARN_OFF;
}

static void set_all(Diag *d, WarnLevel from, WarnLevel to) {
  for (int i = 0; i < WARNINGS; i++)
    if (d->level[i] == from) d->level[i] = (uint8_t)to;
}

static bool begins(const char **word, const char *with) {
  size_t n = strlen(with);
  if (strncmp(*word, with, n)) return false;
  *word += n;
  return true;
}

bool warnings_set(Diag *d, const char *word, const char **near) {
  const char *names[WARNINGS];
  if (!strcmp(word, "all")) return set_all(d, WARN_OFF, WARN_SAY), true;
  if (!strcmp(word, "error")) return d->werror = true, true;
  bool off = begins(&word, "no-");
  WarnLevel level = off ? WARN_OFF : begins(&word, "error=") ? WARN_ERROR : WARN_SAY;
  for (int i = 0; i < WARNINGS; i++) {
    names[i] = table[i].name;
    if (strcmp(word, names[i])) continue;
    d->level[i] = (uint8_t)level;
    return true;
  }
  *near = nearest_name(word, names, WARNINGS);
  return false;
}

void warnings_describe(Text *out) {
  for (int i = 0; i < WARNINGS; i++)
    text_printf(out, "  -W%-24s%s%s\n", table[i].name, table[i].meaning,
                table[i].shown ? "" : " (with -Wall)");
}
