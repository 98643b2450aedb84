# What `cmake --install` puts beside the targets' own rules: the package for find_package(mpcc), the man
# page, the language's library and examples to read.
include(CMakePackageConfigHelpers)
include(GNUInstallDirs)
configure_package_config_file(${PROJECT_SOURCE_DIR}/cmake/mpccConfig.cmake.in
  ${PROJECT_BINARY_DIR}/mpccConfig.cmake INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/mpcc
  PATH_VARS CMAKE_INSTALL_BINDIR CMAKE_INSTALL_LIBDIR CMAKE_INSTALL_INCLUDEDIR)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/mpccConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/mpccConfig.cmake ${PROJECT_BINARY_DIR}/mpccConfigVersion.cmake
        DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/mpcc)
install(FILES docs/mpcc.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(DIRECTORY examples DESTINATION ${CMAKE_INSTALL_DATADIR}/mpcc)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DOCDIR})
