/* fake_train.c: the fake models as an executable, for the tests of the command line: which of them,
 * the name that it is called by says. */
#include <string.h>

#include "tests/unit/fake_model.h"

int main(int argc, char **argv) {
  const char *slash = strrchr(argv[0], '/'), *name = slash ? slash + 1 : argv[0];
  return mp_cli(!strcmp(name, "split")   ? &fake_model_split
                : !strcmp(name, "loads") ? &fake_model_loads
                                         : &fake_model,
                argc, argv);
}
