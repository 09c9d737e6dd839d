/* One model, several characters: adapters MODEL ADAPTER.gguf ADAPTER.safetensors ADAPTER.json. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

static ossicle_adapter *adapter_of(const ossicle_model *model, const ossicle_adapter_config *config, void **region) {
    ossicle_layout layout;
    ossicle_adapter *adapter = NULL;
    uint32_t rank = 0;
    CHECK(ossicle_adapter_layout(model, config, &layout, &error) == OSSICLE_OK);
    *region = region_of(layout);
    CHECK(ossicle_adapter_new(model, *region, layout.size - 1, config, &adapter, &error) == OSSICLE_ERROR_REGION_SIZE);
    CHECK(ossicle_adapter_new(model, *region, layout.size, config, &adapter, &error) == OSSICLE_OK);
    CHECK(ossicle_adapter_rank(adapter, &rank) == OSSICLE_OK && rank == 4);
    return adapter;
}

/* The logits after some tokens, in memory of the caller. */
static float *logits_of(ossicle_session *session) {
    const uint32_t tokens[] = {1, 2, 3, 5, 8};
    const float *start = NULL;
    size_t count = 0;
    CHECK(ossicle_session_start(session, tokens, 5, OSSICLE_LOGITS_LAST, &error) == OSSICLE_OK);
    while (ossicle_session_step(session, NULL, 0, &error) == OSSICLE_MORE) {
    }
    CHECK(ossicle_session_logits(session, &start, &count) == OSSICLE_OK && count == 512);
    float *logits = malloc(count * sizeof *logits);
    CHECK(logits != NULL);
    memcpy(logits, start, count * sizeof *logits);
    return logits;
}

static float farthest(const float *left, const float *right) {
    float most = 0;
    for (size_t i = 0; i < 512; i++) {
        const float difference = left[i] > right[i] ? left[i] - right[i] : right[i] - left[i];
        most = difference > most ? difference : most;
    }
    return most;
}

static ossicle_session *session_of(const ossicle_model *model, uint32_t rank, void **region) {
    const ossicle_session_config config = {
        .struct_size = sizeof config, .context_tokens = 200, .batch_tokens = 16, .adapter_rank = rank};
    ossicle_layout layout;
    ossicle_session *session = NULL;
    CHECK(ossicle_session_layout(model, &config, &layout, &error) == OSSICLE_OK);
    *region = region_of(layout);
    CHECK(ossicle_session_new(model, *region, layout.size, &config, &session, &error) == OSSICLE_OK);
    return session;
}

int main(int argc, char **argv) {
    CHECK(argc == 5);
    engine engine = engine_on(file_at(argv[1]));
    void *regions[5];
    const ossicle_adapter_config gguf = {.struct_size = sizeof gguf, .file = file_at(argv[2])};
    const ossicle_adapter_config peft = {
        .struct_size = sizeof peft, .file = file_at(argv[3]), .config_json = file_at(argv[4])};
    ossicle_adapter *one = adapter_of(engine.model, &gguf, &regions[0]);
    ossicle_adapter *other = adapter_of(engine.model, &peft, &regions[1]);
    ossicle_session *session = session_of(engine.model, 4, &regions[2]);
    uint32_t position = 0;

    /* The same adapter from two files, and none again. */
    float *plain = logits_of(session);
    const ossicle_adapted half[] = {{.struct_size = sizeof *half, .scale = 0.5f, .adapter = one},
                                    {.struct_size = sizeof *half, .scale = 0.5f, .adapter = other}};
    const ossicle_adapted whole = {.struct_size = sizeof whole, .scale = 1, .adapter = other};
    CHECK(ossicle_session_adapt(session, &whole, 1, &error) == OSSICLE_OK);
    CHECK(ossicle_session_position(session, &position) == OSSICLE_OK && position == 0);
    float *adapted = logits_of(session);
    CHECK(ossicle_session_adapt(session, half, 2, &error) == OSSICLE_OK);
    float *halves = logits_of(session);
    CHECK(ossicle_session_adapt(session, NULL, 0, &error) == OSSICLE_OK);
    float *again = logits_of(session);
    CHECK(farthest(plain, adapted) > 0.1f && farthest(halves, adapted) < 0.01f && farthest(plain, again) == 0);

    /* What does not fit changes nothing. */
    ossicle_adapted many[OSSICLE_ADAPTERS_MAX + 1];
    for (size_t i = 0; i <= OSSICLE_ADAPTERS_MAX; i++)
        many[i] = whole;
    CHECK(ossicle_session_adapt(session, many, OSSICLE_ADAPTERS_MAX + 1, &error) == OSSICLE_ERROR_CAPACITY);
    CHECK(ossicle_session_adapt(session, many, 1, &error) == OSSICLE_OK);
    many[0].adapter = NULL;
    CHECK(ossicle_session_adapt(session, many, 1, &error) == OSSICLE_ERROR_ARGUMENT);
    many[0].adapter = (const ossicle_adapter *)(const void *)session;
    CHECK(ossicle_session_adapt(session, many, 1, &error) == OSSICLE_ERROR_OBJECT);
    ossicle_session *small = session_of(engine.model, 3, &regions[3]);
    CHECK(ossicle_session_adapt(small, &whole, 1, &error) == OSSICLE_ERROR_CAPACITY);
    ossicle_layout layout;
    const ossicle_adapter_config neither = {.struct_size = sizeof neither, .file = peft.file};
    CHECK(ossicle_adapter_layout(engine.model, &neither, &layout, &error) == OSSICLE_ERROR_FILE);
    const ossicle_adapter_config nothing = {.struct_size = sizeof nothing};
    CHECK(ossicle_adapter_layout(engine.model, &nothing, &layout, &error) == OSSICLE_ERROR_ARGUMENT);

    /* A conversation changes its character, and its tokens stay. */
    ossicle_generation *generation = NULL;
    CHECK(ossicle_session_adapt(session, NULL, 0, &error) == OSSICLE_OK);
    CHECK(ossicle_generation_layout(session, engine.tokenizer, NULL, &layout, &error) == OSSICLE_OK);
    regions[4] = region_of(layout);
    CHECK(ossicle_generation_new(session, engine.tokenizer, regions[4], layout.size, NULL, &generation, &error)
          == OSSICLE_OK);
    const ossicle_message message = {.struct_size = sizeof message, .role = OSSICLE_ROLE_USER, .text = text_of("Hm?")};
    CHECK(ossicle_generation_append(generation, &message, 1, &error) == OSSICLE_OK);
    const uint32_t *tokens = NULL;
    size_t before = 0, after = 0;
    CHECK(ossicle_generation_tokens(generation, &tokens, &before) == OSSICLE_OK && before > 0);
    CHECK(ossicle_generation_adapt(generation, &whole, 1, &error) == OSSICLE_OK);
    CHECK(ossicle_generation_tokens(generation, &tokens, &after) == OSSICLE_OK && after == before);

    for (size_t i = 0; i < 5; i++)
        free(regions[i]);
    free(plain);
    free(adapted);
    free(halves);
    free(again);
    free((void *)(uintptr_t)gguf.file.start);
    free((void *)(uintptr_t)peft.file.start);
    free((void *)(uintptr_t)peft.config_json.start);
    free((void *)(uintptr_t)engine.file.start);
    free(engine.regions[0]);
    free(engine.regions[1]);
    return 0;
}
