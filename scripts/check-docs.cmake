cmake_minimum_required(VERSION 3.25)
# What the documentation repeats is what the source says: docs/ops.md is `mpcc --print-ops`, README
# shows examples/mlp.mp, and the graph in docs/ir.md reads and prints as it stands.
# cmake -P, with ROOT, MPCC and OPT set.
execute_process(COMMAND ${MPCC} --print-ops OUTPUT_VARIABLE ops COMMAND_ERROR_IS_FATAL ANY)
file(READ ${ROOT}/docs/ops.md page)
if(NOT ops STREQUAL page)
  message(SEND_ERROR "docs/ops.md is old: mpcc --print-ops > docs/ops.md")
endif()

file(READ ${ROOT}/examples/mlp.mp model)
string(REGEX REPLACE "^.*version 1\n" "version 1\n" model "${model}")
string(REGEX REPLACE "\n([^\n])" "\n    \\1" model "\n${model}")
file(READ ${ROOT}/README.md readme)
string(FIND "${readme}" "${model}" at)
if(at LESS 0)
  message(SEND_ERROR "README.md does not show examples/mlp.mp as it is")
endif()

file(READ ${ROOT}/docs/ir.md page)
string(REGEX MATCH "    graph \"tiny\".*\n    }\n" graph "${page}")
string(REPLACE "\n    " "\n" graph "\n${graph}")
string(SUBSTRING "${graph}" 1 -1 graph)
file(WRITE ${OUT}/tiny.ir "${graph}")
execute_process(COMMAND ${OPT} ${OUT}/tiny.ir OUTPUT_VARIABLE printed COMMAND_ERROR_IS_FATAL ANY)
if(NOT printed STREQUAL graph)
  message(SEND_ERROR "the graph in docs/ir.md prints as\n${printed}")
endif()
