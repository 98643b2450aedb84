/* response.c: arguments from files.  `@FILE` on a command line stands for the words in FILE: blanks
 * and line ends separate them, quotes of either kind and backslashes keep blanks, `#` begins a
 * comment.  Files may name files, to a depth that a cycle soon meets. */
#include "tools/tools.h"

#include <string.h>

enum { MOST_NESTED = 10 };

typedef struct Words {
  Arena *arena;
  VEC(char *) at;
} Words;

static bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

/* One word from *s, unquoted; NULL at the end. */
static char *next_word(Arena *a, const char **s) {
  Text t = {.arena = a};
  char quote = 0;
  while (is_blank(**s) || **s == '#') {
    if (**s == '#') *s += strcspn(*s, "\n");
    else ++*s;
  }
  if (!**s) return NULL;
  text_add(&t, "");
  for (; **s && (quote || !is_blank(**s)); ++*s) {
    char c = **s;
    if (quote ? c == quote : c == '"' || c == '\'') quote = quote ? 0 : c;
    else {
      if (c == '\\' && (*s)[1]) c = *++*s;
      text_add_n(&t, &c, 1);
    }
  }
  return t.at;
}

static bool add_words(Words *w, int n, char *const *words, int depth);

static bool add_file(Words *w, const char *path, int depth) {
  const char *why = NULL;
  size_t size;
  const char *s = depth < MOST_NESTED ? read_file(w->arena, path, &size, &why) : NULL;
  if (!s) {
    fprintf(stderr, "mpcc: cannot read @%s: %s\n", path, why ? why : "files name each other");
    return false;
  }
  for (char *word = next_word(w->arena, &s); word; word = next_word(w->arena, &s))
    if (!add_words(w, 1, &word, depth + 1)) return false;
  return true;
}

static bool add_words(Words *w, int n, char *const *words, int depth) {
  for (int i = 0; i < n; i++) {
    if (words[i][0] == '@' && words[i][1]) {
      if (!add_file(w, words[i] + 1, depth)) return false;
    } else vec_push(w->arena, &w->at, words[i]);
  }
  return true;
}

bool response_expand(Arena *arena, int *argc, char ***argv) {
  Words w = {.arena = arena};
  if (!add_words(&w, *argc, *argv, 0)) return false;
  *argc = (int)w.at.len;
  vec_push(arena, &w.at, NULL);
  *argv = w.at.at;
  return true;
}
