/* What a program defines that links the freestanding library: what happens on a defect of the library. */
#include <ossicle.h>
#include <stdio.h>
#include <stdlib.h>

void ossicle_panic(const char *text, size_t size) {
    fprintf(stderr, "%.*s\n", (int)size, text);
    abort();
}
