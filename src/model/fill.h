/* Inside the model room: weights on their way from the file into the memory that
 * was laid out for them. Parts are cut into chunks of about a mebibyte in the
 * order of the file; threads take one each, read it into their bounce buffer and
 * pack it from there, so that packing overlaps with reading.
 */
#ifndef MODEL_FILL_H
#define MODEL_FILL_H

#include "model/model.h"

/* Consecutive rows of a tensor that become one matrix, or a vector of floats. */
typedef struct fill_part {
    const file_tensor *t;
    uint64_t begin, n_bytes;  /* within the tensor */
    const dev_matrix *matrix; /* or NULL: */
    float *vector;
} fill_part;

typedef struct fill {
    const file *f;
    const dev *dev;
    const fill_part *parts;
    size_t n_parts;
    const model_options *opts; /* load, samples, progress */
    uint64_t total_bytes;
} fill;

/* Bytes that are held only meanwhile. */
uint64_t fill_plan_bytes(const fill *f);
/* False with ERR_CANCELLED within some milliseconds of progress() saying so. */
bool fill_run(const fill *f, error *err);
/* model_options.samples through the mapping, where nothing else is read. */
void fill_samples(const file *f, unsigned char *samples);

#endif
