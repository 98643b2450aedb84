# Text tests: run lines over files, judged by FileCheck.  tests/CMakeLists.txt starts lit with the
# parameters bin (folder of mpcc and mpcc-opt), filecheck and out (folder for temporary files).
import os
import sys

import lit.formats

config.name = "mpcc"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".ir", ".mp", ".test"]
config.excludes = ["Inputs"]
config.test_source_root = os.path.dirname(__file__)
config.test_exec_root = lit_config.params["out"]

tools = lit_config.params["bin"]
for tool in ("mpcc-opt", "mpcc"):
    # A tool's name inside a path or a longer name is left alone.
    config.substitutions.append((r"(?<![\w./-])%s(?![\w./-])" % tool, os.path.join(tools, tool)))
config.substitutions.append((r"(?<![\w./-])FileCheck(?![\w./-])", lit_config.params["filecheck"]))
config.substitutions.append(("%examples", os.path.join(config.test_source_root, "..", "..", "examples")))
config.substitutions.append(("%bin", tools))
config.substitutions.append(("%python", sys.executable))
config.substitutions.append(("%docs", os.path.join(config.test_source_root, "..", "..", "docs")))
config.substitutions.append(("%programs", os.path.join(config.test_source_root, "..", "programs")))
config.environment["MPCC_BIN"] = tools
for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TMPDIR"):
    if name in os.environ:
        config.environment[name] = os.environ[name]
