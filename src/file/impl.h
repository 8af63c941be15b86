/* Inside `file` only: an open model file, between file.c (opening, look-ups) and
 * read.c (its bytes without the mapping). */
#ifndef FILE_IMPL_H
#define FILE_IMPL_H

#include "file/gguf.h"

struct file {
    arena mem; /* all tables and paths */
    char *path;
    int n_parts;
    gguf_part *parts;  /* [n_parts] */
    char **part_paths; /* [n_parts] */
    int *fds;          /* [n_parts] when mapped */
    bool mapped;       /* the bytes of all parts are ours to unmap */
    bool linked;       /* they are pages of the program's own file */
    gguf_value *values;
    file_tensor *tensors;
    size_t n_values, n_tensors;
    file_index keys, names;
};

#endif
