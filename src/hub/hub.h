/* Which models exist here, and opening one by name. A name is a path to a GGUF
 * file, the name of a file in the models directory (with or without .gguf), or
 * nothing / "oriel-house" for the model built into the program.
 *
 * What a model is called, when it was made, and its licence come from the file
 * itself.
 */
#ifndef HUB_HUB_H
#define HUB_HUB_H

#include "base/error.h"
#include "file/file.h"

#define HUB_BUILTIN "oriel-house"

typedef struct hub_model {
    file *f;
    char id[200];    /* how the API lists it */
    char path[4096]; /* "" for the built-in one */
    int64_t created; /* Unix seconds: the file's modification time; 0 for the built-in one */
    bool is_builtin;
} hub_model;

/* name NULL or "" is the built-in model. data_dir may be NULL. ERR_MODEL_NOT_FOUND says where it
 * looked. */
bool hub_open(const char *name, const char *data_dir, hub_model *out, error *err);
void hub_close(hub_model *m);
/* The bytes of the built-in model; false when the program was built without one. */
bool hub_get_builtin(const void **bytes, size_t *len);

#endif
