/* Jobs of the engine on threads that are started for each. Needs _POSIX_C_SOURCE. */
#ifndef OSSICLE_TESTS_THREADS_H
#define OSSICLE_TESTS_THREADS_H

#include "check.h"

#include <pthread.h>

typedef struct entry {
    ossicle_job job;
    void *data;
} entry;

static void *enter(void *data) {
    entry *entry = data;
    entry->job(entry->data);
    return NULL;
}

/* Enters a job from so many threads, at most 8, and from this one too if `here`, and waits until all are back. */
static void on_threads(int count, int here, ossicle_job job, void *job_data) {
    pthread_t threads[8];
    entry entry = {job, job_data};
    CHECK(count <= 8);
    for (int index = 0; index < count; index++)
        CHECK(pthread_create(&threads[index], NULL, enter, &entry) == 0);
    if (here)
        job(job_data);
    for (int index = 0; index < count; index++)
        CHECK(pthread_join(threads[index], NULL) == 0);
}

#endif
