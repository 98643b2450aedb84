/* import.c: `import "std/nn.mp"`, `import "f.mp" as g`.
 *
 * A file is looked for beside its importer, then in the -I folders, then in the library that the
 * compiler carries.  It is declared once, in a scope of its own above the builtins: it sees nothing
 * of its importer.  Without `as` its names come between the importer's own and the builtins; names
 * that it imported itself are not passed on.  Its model, train and infer blocks are not looked at.
 */
#include "frontend/sema.h"

#include <string.h>
#include <sys/stat.h>

enum { IMPORT_DEPTH = 64, MOST_NAMED = 16 };

extern const EmbeddedFile library[]; /* std/ of the source tree, by the build */

struct File {
  const char *path; /* as shown in messages */
  struct stat id;   /* which file it is; of the library: zero */
  const File *importer;
  const char *given_as; /* it was declared with the -D of this name; or NULL */
  Scope *scope;         /* NULL: it could not be parsed */
};

/* ---- finding --------------------------------------------------------------------------------- */

static const char *folder_of(Sema *s, const char *path) {
  const char *slash = strrchr(path, '/');
  return slash ? arena_text(s->arena, path, (size_t)(slash - path) + 1) : "";
}

static bool is_there(const char *path, struct stat *id) {
  return !stat(path, id) && S_ISREG(id->st_mode);
}

static const EmbeddedFile *find_in_library(const char *name) {
  for (size_t i = 0; library[i].name; i++)
    if (!strcmp(library[i].name, name)) return &library[i];
  return NULL;
}

/* The path to read, with its identity; the library's name with *own set; NULL: nowhere. */
static const char *find_path(Sema *s, const char *name, struct stat *id, const EmbeddedFile **own) {
  const FrontendOptions *o = s->options;
  *own = NULL;
  memset(id, 0, sizeof *id);
  const char *path =
      *name == '/' ? name : arena_printf(s->arena, "%s%s", folder_of(s, s->current->path), name);
  if (is_there(path, id)) return path;
  for (uint32_t i = 0; *name != '/' && i < o->nfolders; i++) {
    path = arena_printf(s->arena, "%s/%s", o->folders[i], name);
    if (is_there(path, id)) return path;
  }
  memset(id, 0, sizeof *id);
  *own = find_in_library(name);
  return *own ? name : NULL;
}

static void not_found(Sema *s, const Ast *a, const char *name) {
  const char *names[MOST_NAMED];
  size_t n = 0;
  for (; n < MOST_NAMED && library[n].name; n++) names[n] = library[n].name;
  diag_error(s->diag, a->kid[IMPORT_PATH]->loc,
             "no file \"%s\" beside this one, in a -I folder or in the library%s", name,
             sema_near(s, name, names, n));
}

/* ---- declaring ------------------------------------------------------------------------------- */

static bool same_file(const File *f, const char *path, const struct stat *id) {
  if (f->id.st_ino == 0 || id->st_ino == 0) return !strcmp(f->path, path);
  return f->id.st_ino == id->st_ino && f->id.st_dev == id->st_dev;
}

static bool is_cycle(Sema *s, const Ast *a, const char *path, const struct stat *id) {
  unsigned depth = 0;
  for (const File *f = s->current; f; f = f->importer, depth++) {
    if (!same_file(f, path, id)) continue;
    diag_error(s->diag, a->kid[IMPORT_PATH]->loc, "a cycle of imports: \"%s\" imports itself%s",
               a->kid[IMPORT_PATH]->name, depth ? " through this file" : "");
    return true;
  }
  if (depth < IMPORT_DEPTH) return false;
  diag_error(s->diag, a->kid[IMPORT_PATH]->loc, "imports nest deeper than %d", IMPORT_DEPTH);
  return true;
}

static Ast *parse_file(Sema *s, const Ast *a, const char *path, const EmbeddedFile *own) {
  const char *why = NULL, *text = own ? own->text : NULL;
  size_t size = own ? own->size : 0;
  if (!own) text = read_file(s->arena, path, &size, &why);
  if (!text) {
    diag_error(s->diag, a->kid[IMPORT_PATH]->loc, "cannot read %s: %s", path, why);
    return NULL;
  }
  uint32_t source = diag_source(s->diag, path, text, size);
  return frontend_parse(s->arena, s->strings, s->diag, source);
}

/* Declares with the file's own view of the world, then goes back to the importer's. */
static void declare_import(Sema *s, File *f, const Ast *ast) {
  Scope *scope = s->file;
  File *importer = s->current;
  s->file = f->scope = file_scope(s);
  s->current = f;
  declare_file(s, ast);
  s->current = importer;
  s->file = scope;
}

static File *load(Sema *s, const Ast *a, const char *given_as) {
  const char *name = a->kid[IMPORT_PATH]->name;
  const EmbeddedFile *own;
  struct stat id;
  const char *path = find_path(s, name, &id, &own);
  if (!path) return not_found(s, a, name), NULL;
  if (is_cycle(s, a, path, &id)) return NULL;
  for (uint32_t i = 0; i < s->files.len; i++)
    if (same_file(s->files.at[i], path, &id) && s->files.at[i]->given_as == given_as)
      return s->files.at[i];
  File *f = NEW(s->arena, File);
  *f = (File){.path = path, .id = id, .importer = s->current, .given_as = given_as};
  vec_push(s->arena, &s->files, f);
  uint32_t errors = s->diag->errors;
  const Ast *ast = parse_file(s, a, path, own);
  if (ast) declare_import(s, f, ast);
  if (s->diag->errors > errors) diag_note(s->diag, a->kid[IMPORT_PATH]->loc, "imported here");
  return f;
}

/* ---- the importer's side --------------------------------------------------------------------- */

void import_prelude(Sema *s) {
  static const char name[] = "std/optim.mp";
  const EmbeddedFile *own = find_in_library(name);
  File *f = NEW(s->arena, File), *nobody = NEW(s->arena, File);
  nobody->path = name;
  *f = (File){.path = name, .importer = nobody}; /* so that it takes no -D of the main file */
  uint32_t source = diag_source(s->diag, name, own->text, own->size);
  s->diag->sources.at[source].built_in = true;
  declare_import(s, f, frontend_parse(s->arena, s->strings, s->diag, source));
  for (uint32_t i = 0; i < f->scope->names.len; i++) {
    const Binding *b = &f->scope->names.at[i];
    scope_set(s, s->builtins, b->name, b->val, b->loc);
  }
}

File *import_main(Sema *s) {
  File *f = NEW(s->arena, File);
  f->path = s->options->source;
  f->scope = s->file;
  if (!is_there(f->path, &f->id)) memset(&f->id, 0, sizeof f->id);
  return f;
}

bool import_is_main(const Sema *s) { return !s->current->importer; }

const char *import_given_as(const Sema *s) { return s->current->given_as; }

/* A -D `as.name=v` is there for this import of the main file. */
static bool has_defines(Sema *s, const char *as) {
  size_t n = as ? strlen(as) : 0;
  for (uint32_t i = 0; as && import_is_main(s) && i < s->options->ndefines; i++) {
    const char *name = s->options->defines[i].name;
    if (!strncmp(name, as, n) && name[n] == '.') return true;
  }
  return false;
}

/* Two imports may not both give a name; the same file twice gives it once. */
static void add_names(Sema *s, const File *f, const Ast *a) {
  Scope *imported = s->file->parent;
  for (uint32_t i = 0; i < f->scope->names.len; i++) {
    const Binding *b = &f->scope->names.at[i], *other = scope_find_here(imported, b->name);
    bool same = other && same_place(other->loc, b->loc);
    if (!other) scope_set(s, imported, b->name, b->val, b->loc);
    else if (!same) {
      diag_error(s->diag, a->kid[IMPORT_PATH]->loc,
                 "`%s` is in two imports: give one of them a name, `import \"%s\" as m`", b->name,
                 a->kid[IMPORT_PATH]->name);
      diag_note(s->diag, other->loc, "the other is here");
      return;
    }
  }
}

void declare_import_item(Sema *s, const Ast *a) {
  const File *f = load(s, a, has_defines(s, a->name) ? a->name : NULL);
  bool good = f && f->scope;
  Val v = good ? (Val){.kind = VAL_FILE, .scope = f->scope} : val_bad();
  if (a->name) scope_bind(s, s->file, a->name, v, a->loc);
  else if (good) add_names(s, f, a);
  else s->incomplete = true;
}
