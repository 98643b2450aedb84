/* json.c: exactly the JSON that safetensors headers need; nothing lenient.
 *
 * A pull parser over a private, NUL-ended copy of the text.  Strings are decoded in place: what
 * they mean is never longer than what was written, and the closing quote leaves room for the NUL.
 * The first thing wrong stays in `bad`; after it nothing is consumed, so callers may check late.
 */
#include "runtime/rt.h"

#include <string.h>

static bool fail(mp_json *j, const char *what) {
  if (!j->bad) j->bad = what;
  return false;
}

static void skip_space(mp_json *j) {
  while (j->at < j->end && strchr(" \t\r\n", *j->at) && *j->at) j->at++;
}

bool mp_json_take(mp_json *j, char c) {
  if (j->bad) return false;
  skip_space(j);
  if (j->at >= j->end || *j->at != c) return false;
  j->at++;
  return true;
}

bool mp_json_expect(mp_json *j, char c) {
  if (mp_json_take(j, c)) return true;
  switch (c) {
  case '{': return fail(j, "expected '{'");
  case '}': return fail(j, "expected ',' or '}'");
  case '[': return fail(j, "expected '['");
  case ']': return fail(j, "expected ',' or ']'");
  case ':': return fail(j, "expected ':'");
  default: return fail(j, "unexpected character");
  }
}

bool mp_json_end(mp_json *j) {
  if (j->bad) return false;
  skip_space(j);
  return j->at == j->end || fail(j, "text after the end of the header");
}

/* Digits only: no sign, fraction, exponent or leading zero can be a size. */
bool mp_json_u64(mp_json *j, uint64_t *out) {
  if (j->bad) return false;
  skip_space(j);
  char *start = j->at;
  uint64_t n = 0;
  for (; *j->at >= '0' && *j->at <= '9'; j->at++)
    if (!mp_mul(n, 10, &n) || !mp_add(n, (uint64_t)(*j->at - '0'), &n))
      return fail(j, "a number is too large");
  if (j->at == start) return fail(j, "expected a number");
  if (*start == '0' && j->at - start > 1) return fail(j, "a number begins with 0");
  *out = n;
  return true;
}

/* ---- strings ---- */

static int hex4(const char *p) {
  int n = 0;
  for (int i = 0; i < 4; i++) {
    const char *digits = "0123456789abcdef0123456789ABCDEF",
               *d = p[i] ? strchr(digits, p[i]) : NULL;
    if (!d) return -1;
    n = n * 16 + (int)((d - digits) & 15);
  }
  return n;
}

/* A \u escape, or the two of a surrogate pair; -1: not one. */
static int32_t code_point(mp_json *j) {
  int high = hex4(j->at);
  if (high <= 0) return -1;
  j->at += 4;
  if (high < 0xd800 || high > 0xdfff) return high;
  int low = high < 0xdc00 && j->at[0] == '\\' && j->at[1] == 'u' ? hex4(j->at + 2) : -1;
  if (low < 0xdc00 || low > 0xdfff) return -1;
  j->at += 6;
  return 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
}

static char *put_utf8(char *out, int32_t c) {
  int more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
  static const int lead[] = {0, 0xc0, 0xe0, 0xf0};
  *out++ = (char)(lead[more] | c >> (6 * more));
  while (more-- > 0) *out++ = (char)(0x80 | (c >> (6 * more) & 0x3f));
  return out;
}

static char *put_escape(mp_json *j, char *out) {
  static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
  char c = *j->at++;
  const char *simple = c ? strchr(from, c) : NULL;
  if (simple) {
    *out++ = to[simple - from];
    return out;
  }
  int32_t point = c == 'u' ? code_point(j) : -1;
  return point > 0 ? put_utf8(out, point) : NULL;
}

static bool is_utf8(const char *s) {
  const unsigned char *p = (const unsigned char *)s;
  while (*p) {
    int more = *p < 0x80 ? 0 : *p < 0xc2 ? -1 : *p < 0xe0 ? 1 : *p < 0xf0 ? 2 : *p < 0xf5 ? 3 : -1;
    if (more < 0) return false;
    bool low = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xf0 && p[1] < 0x90); /* overlong */
    bool high =
        (p[0] == 0xed && p[1] > 0x9f) || (p[0] == 0xf4 && p[1] > 0x8f); /* surrogate, range */
    if (more && (low || high)) return false;
    for (p++; more > 0; more--, p++)
      if ((*p & 0xc0) != 0x80) return false;
  }
  return true;
}

char *mp_json_string(mp_json *j) {
  if (!mp_json_take(j, '"')) return fail(j, "expected a string"), NULL;
  char *start = j->at, *out = start;
  while (*j->at != '"') {
    if (j->at >= j->end) return fail(j, "a string has no end"), NULL;
    if ((unsigned char)*j->at < 0x20) return fail(j, "a control character in a string"), NULL;
    if (*j->at != '\\') *out++ = *j->at++;
    else if (j->at++, !(out = put_escape(j, out))) return fail(j, "a bad escape"), NULL;
  }
  j->at++;
  *out = 0;
  if (!is_utf8(start)) return fail(j, "a string is not UTF-8"), NULL;
  return start;
}

void mp_json_quote(mp_text *t, const char *s) {
  mp_text_add(t, "\"");
  for (; *s; s++)
    if (*s == '"' || *s == '\\') mp_text_add(t, "\\%c", *s);
    else if ((unsigned char)*s < 0x20) mp_text_add(t, "\\u%04x", (unsigned)*s);
    else mp_text_add(t, "%c", *s);
  mp_text_add(t, "\"");
}
