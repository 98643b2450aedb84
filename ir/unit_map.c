/* unit_map.c: the unit of a value, a map from loss scales to exponents, as one number.
 *
 * What a loss hands back is multiplied by the scale of its own scaler, numbered from 0.  Where
 * cotangents of two meet both become multiples of the lesser scale, so that none overflows, and
 * which one that is changes from step to step: the least of a set of scales is a symbol of its own.
 * A unit is a product of at most two powers of such symbols, ascending by set; 0: none.  So equal
 * units are equal numbers, and a unit is copied as one.
 *
 * As text: *S, *S^2, *S1^-1, *min(S,S1), *min(S,S1)*S1^-1.
 */
#include "ir/ir.h"

#include <ctype.h>
#include <string.h>

enum { FACTORS = 2, FACTOR_BITS = 16, MAX_POWER = 100 };

typedef struct Factor {
  unsigned set; /* bit i: scaler i; 0: no factor */
  int power;
} Factor;

static Factor factor(Unit u, int i) {
  if (i == FACTORS) return (Factor){0};
  unsigned bits = u >> (FACTOR_BITS * i);
  return (Factor){bits & 0xff, (int8_t)(bits >> 8 & 0xff)};
}

Unit unit_of_scales(unsigned set, int power) {
  return power ? set | ((Unit)(uint8_t)power << 8) : 0;
}

unsigned unit_scales(Unit u) {
  Factor f = factor(u, 0);
  return u == unit_of_scales(f.set, 1) ? f.set : 0;
}

/* Appends f to *u; false: there is no room, or the power is out of range. */
static bool append(Unit *u, Factor f) {
  int at = 0;
  if (!f.power) return true;
  while (at < FACTORS && factor(*u, at).set) at++;
  if (at == FACTORS || f.power < -MAX_POWER || f.power > MAX_POWER) return false;
  *u |= unit_of_scales(f.set, f.power) << (FACTOR_BITS * at);
  return true;
}

bool unit_times(Unit a, Unit b, int power, Unit *product) {
  Unit u = 0;
  for (int i = 0, k = 0;;) {
    Factor x = factor(a, i), y = factor(b, k), f = x;
    if (!x.set && !y.set) return *product = u, true;
    if (!x.set || (y.set && y.set < x.set)) f = (Factor){y.set, 0};
    i += f.set == x.set;
    k += f.set == y.set;
    if (f.set == y.set) f.power += power * y.power;
    if (!append(&u, f)) return false;
  }
}

bool unit_root(Unit u, Unit *root) {
  Unit r = 0;
  for (int i = 0; i < FACTORS; i++) {
    Factor f = factor(u, i);
    if (f.power % 2) return false;
    append(&r, (Factor){f.set, f.power / 2});
  }
  *root = r;
  return true;
}

/* ---- text ------------------------------------------------------------------------------------ */

static void put_scale(Text *out, int i) {
  text_add(out, "S");
  if (i) text_printf(out, "%d", i);
}

static void put_symbol(Text *out, unsigned set) {
  bool several = (set & (set - 1)) != 0;
  const char *between = "";
  if (several) text_add(out, "min(");
  for (int i = 0; i < MAX_SCALERS; i++) {
    if (!(set >> i & 1)) continue;
    text_add(out, between);
    put_scale(out, i);
    between = ",";
  }
  if (several) text_add(out, ")");
}

void unit_print(Text *out, Unit u) {
  for (int i = 0; i < FACTORS; i++) {
    Factor f = factor(u, i);
    if (!f.set) return;
    text_add(out, "*");
    put_symbol(out, f.set);
    if (f.power != 1) text_printf(out, "^%d", f.power);
  }
}

static bool take_scale(const char **s, unsigned *set) {
  const char *p = *s;
  unsigned i = 0;
  if (*p++ != 'S') return false;
  if (isdigit((unsigned char)*p)) i = (unsigned)(*p++ - '0');
  if (i >= MAX_SCALERS || p[-1] == '0' || isdigit((unsigned char)*p)) return false;
  *set |= 1u << i;
  *s = p;
  return true;
}

static bool take_symbol(const char **s, unsigned *set) {
  if (strncmp(*s, "min(", 4)) return take_scale(s, set);
  for (*s += 4; take_scale(s, set) && **s == ','; ++*s) continue;
  return *set && *(*s)++ == ')';
}

static bool take_power(const char **s, int *power) {
  const char *p = *s;
  *power = 1;
  if (*p != '^') return true;
  bool negative = *++p == '-';
  int n = 0;
  if (negative) p++;
  if (!isdigit((unsigned char)*p)) return false;
  for (; isdigit((unsigned char)*p) && n <= MAX_POWER; p++) n = 10 * n + (*p - '0');
  *power = negative ? -n : n;
  *s = p;
  return n <= MAX_POWER;
}

bool unit_parse(const char **s, Unit *u) {
  *u = 0;
  while (**s == '*') {
    unsigned set = 0;
    int power;
    ++*s;
    if (!take_symbol(s, &set) || !take_power(s, &power)) return false;
    if (!unit_times(*u, unit_of_scales(set, power), 1, u)) return false;
  }
  return true;
}
