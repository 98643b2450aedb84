# LLVM through its C API.  Debian's package config accepts only exact majors, so each supported
# version is asked for in turn, the best tested first.
foreach(version 19.1 20.1 21.1 18.1 17.0)
  find_package(LLVM ${version} QUIET CONFIG)
  if(LLVM_FOUND)
    break()
  endif()
endforeach()
if(NOT LLVM_FOUND)
  message(FATAL_ERROR "LLVM 17 to 21 with its development files is needed (Debian: llvm-19-dev); "
                      "set LLVM_DIR to the folder of LLVMConfig.cmake if it is elsewhere")
endif()
message(STATUS "LLVM ${LLVM_PACKAGE_VERSION} in ${LLVM_DIR}")
add_library(llvm_c INTERFACE)
target_include_directories(llvm_c SYSTEM INTERFACE ${LLVM_INCLUDE_DIRS})
if(TARGET LLVM)
  target_link_libraries(llvm_c INTERFACE LLVM) # the shared library
else()
  llvm_map_components_to_libnames(llvm_libs core passes native analysis target
                                  AllTargetsCodeGens AllTargetsDescs AllTargetsInfos)
  target_link_libraries(llvm_c INTERFACE ${llvm_libs})
endif()
