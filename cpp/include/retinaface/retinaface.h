/* RetinaFace for C and everything that calls C: one model file in, faces of pictures out. No exception leaves it. */
#ifndef RETINAFACE_H_
#define RETINAFACE_H_

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct retinaface_detector retinaface_detector;

/* Picture pixels; the box is clipped to the picture. Landmarks: x y of left eye, right eye, nose, left and right mouth
   corner, left being the left of the picture. */
typedef struct {
  float box[4]; /* x1 y1 x2 y2 */
  float score;  /* probability, 0-1 */
  float landmarks[10];
} retinaface_face;

typedef enum {
  RETINAFACE_BGR = 0,
  RETINAFACE_RGB = 1,
  RETINAFACE_BGRA = 2,
  RETINAFACE_RGBA = 3,
  RETINAFACE_GRAY = 4
} retinaface_order;

/* A detector for a .tflite file, or NULL with one line in `error` (may be NULL), cut to `error_size` bytes. */
retinaface_detector* retinaface_open(const char* model_path, int num_threads, char* error, size_t error_size);

/* The faces of a picture, by score descending.
   pixels: 8 bits a channel, rows `stride` bytes apart (negative: bottom up), not kept.
   score_threshold: 0-1; negative: the model's own.
   faces: room for `capacity` of them; more are counted, but not written.
   Returns how many were found, or -1 with one line in `error`. One call at a time for each detector. */
int retinaface_detect(retinaface_detector* detector, const uint8_t* pixels, int width, int height, ptrdiff_t stride,
                      retinaface_order order, double score_threshold, retinaface_face* faces, int capacity, char* error,
                      size_t error_size);

/* Runs the network alone, on the input of the last call; for measuring. 0, or -1 with one line in `error`. */
int retinaface_invoke(retinaface_detector* detector, char* error, size_t error_size);

void retinaface_close(retinaface_detector* detector);

#ifdef __cplusplus
}
#endif

#endif
