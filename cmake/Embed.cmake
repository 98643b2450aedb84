# embed_files(OUT ARRAY ROOT FILE…): writes OUT, a C file that defines
#   const EmbeddedFile ARRAY[];      base/base.h; ends with a name of NULL
# of the files' bytes under their names relative to ROOT.  Made anew when a file changes.
function(embed_files out array root)
  set(paths)
  foreach(file ${ARGN})
    list(APPEND paths ${root}/${file})
  endforeach()
  list(JOIN ARGN "," names)
  add_custom_command(OUTPUT ${out}
    COMMAND ${CMAKE_COMMAND} -DOUT=${out} -DARRAY=${array} -DROOT=${root} -DNAMES=${names}
            -P ${PROJECT_SOURCE_DIR}/cmake/embed-script.cmake
    DEPENDS ${paths} ${PROJECT_SOURCE_DIR}/cmake/embed-script.cmake VERBATIM)
endfunction()
