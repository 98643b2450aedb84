/* bisect_print.c: what was found, as flags and as words for the source. */
#include "tools/bisect.h"

#include <ctype.h>
#include <string.h>

static double percent_of(int64_t part, int64_t whole) {
  return whole ? 100 * (double)part / (double)whole : 0;
}

static void print_sites(const Bisect *b) {
  printf("in f32:\n");
  for (uint32_t i = 0; i < b->d.sites.len; i++) {
    const Site *s = &b->d.sites.at[i];
    if (!b->kept[i]) continue;
    printf("  %s:%u  %s%s%s  %+.2f MB a step; low, the loss is %+.3f %%\n", s->file,
           (unsigned)s->line, *s->module ? s->module : "the model", *s->ops ? ": " : "", s->ops,
           (double)s->bytes / 1e6, b->harm[i]);
  }
}

static void print_flags(const Bisect *b) {
  printf("as flags:\n ");
  for (uint32_t i = 0; i < b->d.sites.len; i++)
    if (b->kept[i]) printf(" --keep=%s:f32", bisect_flag(b->t.arena, &b->d.sites.at[i]));
  printf("\n");
}

/* ---- words for the source ---- */

/* Line n of the model file, without blanks around it and without a comment; NULL: not of it. */
static const char *line_of(const Bisect *b, const Site *s, const char *text) {
  if (!text || strcmp(path_base(b->t.o.input), s->file)) return NULL;
  for (uint32_t n = 1; n < s->line; n++) {
    text = strchr(text, '\n');
    if (!text++) return NULL;
  }
  size_t len = strcspn(text, "\n");
  for (size_t i = 0; i + 1 < len; i++)
    if (text[i] == '/' && text[i + 1] == '/') len = i;
  while (len && isspace((unsigned char)text[len - 1])) len--;
  while (len && isspace((unsigned char)*text)) text++, len--;
  return arena_text(b->t.arena, text, len);
}

/* "h = …" */
static bool assigns(const char *line) {
  size_t n = 0;
  while (isalnum((unsigned char)line[n]) || line[n] == '_') n++;
  while (line[n] == ' ') n++;
  return n && line[n] == '=' && line[n + 1] != '=';
}

/* What a whole statement of a line becomes; an expression that goes on elsewhere has no such
 * form. */
static bool print_statement(const char *line) {
  size_t n = strlen(line);
  int depth = 0;
  for (size_t i = 0; i < n; i++)
    depth += (strchr("([{", line[i]) != NULL) - (strchr(")]}", line[i]) != NULL);
  if (depth || !n || strchr(",+-*/=@", line[n - 1])) return false;
  if (assigns(line)) printf("%s precision(f32)\n", line);
  else if (!strncmp(line, "return ", 7))
    printf("precision(f32) { kept = %s }; return kept\n", line + 7);
  else return false;
  return true;
}

static bool others_stand_there(const Bisect *b, const Site *s) {
  for (uint32_t i = 0; i < b->d.sites.len; i++) {
    const Site *o = &b->d.sites.at[i];
    if (o != s && o->line == s->line && !strcmp(o->file, s->file)) return true;
  }
  return false;
}

static void print_words(const Bisect *b) {
  const char *why;
  size_t size;
  const char *text = read_file(b->t.arena, b->t.o.input, &size, &why);
  printf("in the source:\n");
  for (uint32_t i = 0; i < b->d.sites.len; i++) {
    const Site *s = &b->d.sites.at[i];
    if (!b->kept[i]) continue;
    const char *line = line_of(b, s, text);
    printf("  %s:%u  ", s->file, (unsigned)s->line);
    if (others_stand_there(b, s))
      printf("`precision(f32)` behind the instance %s keeps all of it; the flag keeps this line\n",
             *s->module ? s->module : "whose line it is");
    else if (!line || !print_statement(line))
      printf("precision(f32) { … } around it%s%s\n", line ? ": " : "", line ? line : "");
  }
}

void bisect_print(const Bisect *b, const Trial *low) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < b->d.sites.len; i++) n += b->kept[i];
  printf("\nthe budget of %g %% is kept with %u of %u sites in f32: loss %.6g, f32 has %.6g\n",
         100 * b->budget, (unsigned)n, (unsigned)b->d.sites.len, b->best.loss, b->reference.loss);
  printf("a step moves %.2f MB, %.1f %% of what f32 does; %.2f MB with nothing kept\n",
         (double)b->best.bytes / 1e6, percent_of(b->best.bytes, b->reference.bytes),
         (double)low->bytes / 1e6);
  print_sites(b);
  print_flags(b);
  print_words(b);
}
