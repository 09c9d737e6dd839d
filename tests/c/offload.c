/* A model in an encrypted store, with a part of its experts in memory: offload MODEL. */
#define _POSIX_C_SOURCE 200809L
#include "threads.h"

typedef struct store {
    const unsigned char *bytes;
    size_t size;
    /* Reads left until one fails; less than 0 for never. Read and announced. */
    int until_failure, reads, announced;
    pthread_mutex_t lock;
} store;

static int32_t decrypt(void *data, uint64_t offset, void *buffer, size_t size) {
    store *store = data;
    pthread_mutex_lock(&store->lock);
    int fails = store->until_failure-- == 0;
    store->reads++;
    pthread_mutex_unlock(&store->lock);
    CHECK(size > 0 && offset <= store->size && size <= store->size - offset);
    if (fails)
        return -1;
    for (size_t at = 0; at < size; at++)
        ((unsigned char *)buffer)[at] = store->bytes[offset + at] ^ (unsigned char)((offset + at) * 167);
    return 0;
}

static void announce(void *data, uint64_t offset, size_t size) {
    store *store = data;
    CHECK(offset <= store->size && size <= store->size - offset);
    store->announced++;
}

static void on_two_threads(void *data, ossicle_job job, void *job_data) {
    (void)data;
    on_threads(1, 1, job, job_data);
}

static const uint32_t tokens[12] = {9, 8, 7, 6, 5, 4, 3, 2, 1, 2, 3, 4};

static ossicle_session *session_of(const ossicle_model *model, void **region) {
    ossicle_session *session = NULL;
    ossicle_layout layout;
    ossicle_session_config config = {
        .struct_size = sizeof config, .context_tokens = 100, .batch_tokens = 12, .logits_rows = 12};
    CHECK(ossicle_session_layout(model, &config, &layout, &error) == OSSICLE_OK);
    *region = region_of(layout);
    CHECK(ossicle_session_new(model, *region, layout.size, &config, &session, &error) == OSSICLE_OK);
    return session;
}

/* The logits after each token; null, and a session where it was, if a read failed. */
static const float *compute(ossicle_session *session, size_t *count) {
    ossicle_host host = {.struct_size = sizeof host, .workers = 1, .parallel = on_two_threads};
    const float *logits = NULL;
    uint32_t position = 1;
    CHECK(ossicle_session_rewind(session, 0, &error) == OSSICLE_OK);
    CHECK(ossicle_session_start(session, tokens, 12, OSSICLE_LOGITS_ALL, &error) == OSSICLE_OK);
    int32_t status = OSSICLE_MORE;
    while (status == OSSICLE_MORE)
        status = ossicle_session_step(session, &host, 1, &error);
    CHECK(ossicle_session_logits(session, &logits, count) == OSSICLE_OK);
    CHECK(ossicle_session_position(session, &position) == OSSICLE_OK);
    if (status == OSSICLE_OK)
        return logits;
    CHECK(status == OSSICLE_ERROR_CALLBACK && *count == 0 && position == 0);
    CHECK(error.file == 0 && error.offset > 0 && strstr(error.text, "could not read") != NULL);
    return NULL;
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    ossicle_bytes file = file_at(argv[1]);
    unsigned char *encrypted = malloc(file.size), *buffer = malloc(file.size);
    for (size_t at = 0; at < file.size; at++)
        encrypted[at] = ((const unsigned char *)file.start)[at] ^ (unsigned char)(at * 167);
    store store = {.bytes = encrypted, .size = file.size, .until_failure = -1};
    CHECK(pthread_mutex_init(&store.lock, NULL) == 0);

    engine engine = engine_on(file);
    void *region = NULL;
    size_t count = 0, again = 0;
    const float *expected = compute(session_of(engine.model, &region), &count);
    CHECK(expected != NULL && count > 0);

    ossicle_source source = {.struct_size = sizeof source,
                             .size = file.size,
                             .data = &store,
                             .read = decrypt,
                             .will_need = announce};
    ossicle_bytes head = {0};
    CHECK(ossicle_file_read_head(&source, buffer, 100, &head, &error) == OSSICLE_ERROR_BUFFER);
    CHECK(head.start == NULL && head.size > 100);
    store.until_failure = 0;
    CHECK(ossicle_file_read_head(&source, buffer, file.size, &head, &error) == OSSICLE_ERROR_CALLBACK);
    CHECK(ossicle_file_read_head(&source, buffer, file.size, &head, &error) == OSSICLE_OK);
    CHECK(head.start == buffer && head.size < file.size && memcmp(buffer, file.start, head.size) == 0);

    ossicle_model_config config = {
        .struct_size = sizeof config, .file_count = 1, .files = &head, .sources = &source, .experts_size = 1};
    ossicle_layout layout;
    CHECK(ossicle_model_layout(&config, &layout, &error) == OSSICLE_ERROR_CAPACITY);
    size_t least = (size_t)strtoull(strrchr(error.text, ',') + 1, NULL, 10);
    ossicle_model_config in_memory = {
        .struct_size = sizeof in_memory, .file_count = 1, .files = &file, .experts_size = least};
    CHECK(ossicle_model_layout(&in_memory, &layout, &error) == OSSICLE_ERROR_ARGUMENT);
    CHECK(least > 1000 && least < file.size);

    /* From three experts of each layer to one, and then all: 0. */
    for (uint64_t experts = 4; experts-- > 0;) {
        config.experts_size = experts * least;
        CHECK(ossicle_model_layout(&config, &layout, &error) == OSSICLE_OK);
        void *regions[2] = {region_of(layout), NULL};
        ossicle_model *model = NULL;
        CHECK(ossicle_model_new(regions[0], layout.size - 64, &config, &model, &error) == OSSICLE_ERROR_REGION_SIZE);
        store.until_failure = 3;
        CHECK(ossicle_model_new(regions[0], layout.size, &config, &model, &error) == OSSICLE_ERROR_CALLBACK);
        CHECK(ossicle_model_new(regions[0], layout.size, &config, &model, &error) == OSSICLE_OK);
        CHECK(ossicle_model_check_values(model, &error) == OSSICLE_OK);
        ossicle_session *session = session_of(model, &regions[1]);
        /* Reads that fail one after another, and then none. */
        store.announced = 0;
        int failures = 0;
        for (int at = 0; at < 40; at++) {
            store.until_failure = at;
            const float *logits = compute(session, &again);
            if (logits == NULL)
                failures++;
            else
                CHECK(again == count && memcmp(logits, expected, count * sizeof *logits) == 0);
        }
        CHECK(failures > 1 && store.announced > 0);
        store.until_failure = -1;
        for (int times = 0; times < 2; times++) {
            store.reads = 0;
            const float *logits = compute(session, &again);
            CHECK(logits != NULL && again == count && memcmp(logits, expected, count * sizeof *logits) == 0);
        }
        /* What stays is not read again. */
        CHECK(experts == 0 ? store.reads == 0 : experts > 1 || store.reads > 0);
        free(regions[0]);
        free(regions[1]);
    }
    source.read = NULL;
    CHECK(ossicle_model_layout(&config, &layout, &error) == OSSICLE_ERROR_ARGUMENT);
    free(region);
    engine_end(&engine);
    free(buffer);
    free(encrypted);
    free((void *)(uintptr_t)file.start);
    return 0;
}
