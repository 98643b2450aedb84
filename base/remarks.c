/* remarks.c: which remarks are wanted: extended regular expressions over the names of remarks.def,
 * as clang has them. */
#define _POSIX_C_SOURCE 200809L
#include "base/base.h"

#include <regex.h>

static const struct {
  const char *name, *meaning;
} table[REMARKS] = {
#define REMARK(id, meaning) {#id, meaning},
#include "base/remarks.def"
};

const char *remark_name(Remark r) { return table[r].name; }

bool remarks_wanted(const Diag *d, Remark r, bool missed) { return d->remarks[missed] >> r & 1; }

bool remarks_set(Diag *d, const char *pattern, bool missed) {
  regex_t regex;
  uint32_t before = d->remarks[missed], found = 0;
  if (regcomp(&regex, pattern, REG_EXTENDED | REG_NOSUB)) return false;
  for (int i = 0; i < REMARKS; i++)
    if (!regexec(&regex, table[i].name, 0, NULL, 0)) found |= 1u << i;
  regfree(&regex);
  d->remarks[missed] = before | found;
  return found != 0;
}

void remarks_describe(Text *out) {
  for (int i = 0; i < REMARKS; i++)
    text_printf(out, "  %-26s%s\n", table[i].name, table[i].meaning);
}
