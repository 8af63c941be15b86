/* Samples → the bytes of a sound file, in memory, as they come. Encoding and
 * resampling are libsndfile's and libsamplerate's. One owner, any thread.
 */
#ifndef API_SOUND_H
#define API_SOUND_H

#include "base/buf.h"
#include "base/error.h"

typedef enum sound_format {
    SOUND_MP3,
    SOUND_OPUS,
    SOUND_FLAC,
    SOUND_WAV,
    SOUND_PCM, /* 16-bit little-endian, no header */
} sound_format;

enum { SOUND_RATE = 24000 }; /* samples per second of what comes out; one channel */

typedef struct sound sound;

sound *sound_new(sound_format f, int in_rate, error *err);
void sound_free(sound *s);
/* n samples of in_rate. False with the error set. */
bool sound_push(sound *s, const int16_t *samples, size_t n, error *err);
bool sound_finish(sound *s, error *err);
/* Appends what can be sent already: for wav and flac, whose headers hold lengths, nothing until
 * sound_finish. */
void sound_take(sound *s, buf *out);
const char *sound_content_type(sound_format f);

#endif
