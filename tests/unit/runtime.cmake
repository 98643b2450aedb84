# The runtime on a model written by hand (fake_model.c).  In a sanitized build these use the
# sanitized twin of the archives; see runtime/CMakeLists.txt.
add_library(fake_model STATIC fake_model.c)
target_link_libraries(fake_model PUBLIC mpcc_rt_checked PRIVATE mpcc_warnings)

foreach(test test_runtime test_data test_checkpoint test_load)
  add_executable(${test} ${test}.c)
  target_link_libraries(${test} PRIVATE fake_model mpcc_warnings m)
  add_test(NAME unit.${test} COMMAND ${test})
endforeach()
# The n-th call of each of these fails, for every n.
target_link_options(test_checkpoint PRIVATE
  LINKER:--wrap=malloc,--wrap=realloc,--wrap=calloc,--wrap=open,--wrap=write,--wrap=fsync,--wrap=close,--wrap=rename,--wrap=mkdir)

add_executable(fake_train fake_train.c)
target_link_libraries(fake_train PRIVATE fake_model mpcc_warnings m)
add_executable(test_cli test_cli.c)
target_include_directories(test_cli PRIVATE ${PROJECT_SOURCE_DIR})
target_link_libraries(test_cli PRIVATE mpcc_warnings)
add_test(NAME unit.test_cli COMMAND test_cli $<TARGET_FILE:fake_train>)
set_tests_properties(unit.test_cli PROPERTIES TIMEOUT 300)
