# Installing: the program, the library as quire::quire with its headers, models and samples; and a .deb.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# What a user links: everything but the command line.
add_library(quire_package INTERFACE)
set_target_properties(quire_package PROPERTIES EXPORT_NAME quire)
target_link_libraries(quire_package INTERFACE quire_pipeline quire_report)

set(QUIRE_INSTALLED base tokenizer tokens kernels cpu device engine corpus pipeline report)
if(QUIRE_WITH_CUDA)
  list(APPEND QUIRE_INSTALLED cuda)
endif()
list(TRANSFORM QUIRE_INSTALLED PREPEND quire_)
foreach(target ${QUIRE_INSTALLED})
  target_include_directories(${target} INTERFACE $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
endforeach()
install(TARGETS quire_package ${QUIRE_INSTALLED} EXPORT quireTargets
        ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}/quire)
install(EXPORT quireTargets NAMESPACE quire:: DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/quire)
configure_package_config_file(${CMAKE_CURRENT_LIST_DIR}/quireConfig.cmake.in
  ${CMAKE_BINARY_DIR}/package/quireConfig.cmake
  INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/quire)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/package/quireConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/package/quireConfig.cmake
  ${CMAKE_BINARY_DIR}/package/quireConfigVersion.cmake
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/quire)
set(package ${CMAKE_BINARY_DIR}/package)
install(CODE "execute_process(COMMAND \"${CMAKE_COMMAND}\" \"-DSOURCE=${CMAKE_SOURCE_DIR}\" \"-DOUTPUT=${package}/include/quire\"
  -P \"${CMAKE_CURRENT_LIST_DIR}/QuireHeaders.cmake\" COMMAND_ERROR_IS_FATAL ANY)")
install(DIRECTORY ${package}/include/quire DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

install(TARGETS quire RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
foreach(folder models samples)
  if(EXISTS ${CMAKE_SOURCE_DIR}/${folder})
    install(DIRECTORY ${folder} DESTINATION ${CMAKE_INSTALL_DATADIR}/quire)
  endif()
endforeach()
# README.md there is of what is installed, and the project's own goes by another name.
configure_file(${CMAKE_CURRENT_LIST_DIR}/README.installed.md ${package}/README.md @ONLY)
install(FILES ${package}/README.md LICENSE CHANGELOG.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(FILES README.md DESTINATION ${CMAKE_INSTALL_DOCDIR} RENAME README.source.md)
install(DIRECTORY docs DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY examples DESTINATION ${CMAKE_INSTALL_DOCDIR})

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME quire)
set(CPACK_PACKAGE_VENDOR Quire)
set(CPACK_PACKAGE_CONTACT "The Quire authors")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "${PROJECT_DESCRIPTION}")
set(CPACK_RESOURCE_FILE_LICENSE ${CMAKE_SOURCE_DIR}/LICENSE)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION science)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)  # reads what the program links; wants dpkg-dev
if(QUIRE_WITH_HUB)  # loaded, not linked: the old names are Debian 12's, the new ones Ubuntu 24.04's
  set(CPACK_DEBIAN_PACKAGE_RECOMMENDS "libcurl4 | libcurl4t64, libssl3 | libssl3t64")
endif()
set(CPACK_DEBIAN_PACKAGE_SUGGESTS "libfmt-dev, libicu-dev, libleveldb-dev, libprotobuf-dev, libxxhash-dev, libzstd-dev, nlohmann-json3-dev, zlib1g-dev")  # to build against it
include(CPack)
