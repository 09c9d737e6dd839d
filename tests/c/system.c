/* The functions for an operating system: system GGUF FOLDER. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

static void checkpoints(const char *gguf, const char *folder) {
    ossicle_checkpoint *checkpoint = NULL;
    const ossicle_model *model = NULL;
    const ossicle_tokenizer *tokenizer = NULL;
    const ossicle_model_numbers *numbers = NULL;
    uint32_t vocabulary = 0;
    CHECK(ossicle_checkpoint_open("/none/such.gguf", &checkpoint, &error) == OSSICLE_ERROR_SYSTEM);
    CHECK(strstr(error.text, "/none/such.gguf") != NULL);
    CHECK(ossicle_checkpoint_open(NULL, &checkpoint, &error) == OSSICLE_ERROR_ARGUMENT);
    CHECK(ossicle_checkpoint_open_descriptor(-1, &checkpoint, &error) == OSSICLE_ERROR_ARGUMENT);
    CHECK(checkpoint == NULL);

    int descriptor = open(gguf, O_RDONLY);
    CHECK(descriptor >= 0);
    CHECK(ossicle_checkpoint_open_descriptor(descriptor, &checkpoint, &error) == OSSICLE_OK);
    close(descriptor);
    CHECK(ossicle_checkpoint_model(checkpoint, &model) == OSSICLE_OK);
    CHECK(ossicle_checkpoint_tokenizer(checkpoint, &tokenizer) == OSSICLE_OK);
    CHECK(ossicle_model_numbers_of(model, &numbers) == OSSICLE_OK);
    CHECK(ossicle_tokenizer_vocabulary(tokenizer, &vocabulary) == OSSICLE_OK && vocabulary == numbers->vocabulary);
    CHECK(ossicle_checkpoint_close((ossicle_checkpoint *)(uintptr_t)model) == OSSICLE_ERROR_OBJECT);
    CHECK(ossicle_checkpoint_close(checkpoint) == OSSICLE_OK);
    CHECK(ossicle_checkpoint_close(NULL) == OSSICLE_OK);

    CHECK(ossicle_checkpoint_open(folder, &checkpoint, &error) == OSSICLE_OK);
    CHECK(ossicle_checkpoint_tokenizer(checkpoint, &tokenizer) == OSSICLE_OK);
    CHECK(ossicle_tokenizer_vocabulary(tokenizer, &vocabulary) == OSSICLE_OK && vocabulary > 100);
    CHECK(ossicle_checkpoint_close(checkpoint) == OSSICLE_OK);
}

static void vocabularies(void) {
    ossicle_tokenizer_config config = {.struct_size = sizeof config};
    ossicle_layout layout;
    ossicle_tokenizer *tokenizer = NULL;
    void *region = NULL;
    uint32_t start = 0;
    CHECK(ossicle_vocabulary_index(&config.index) == OSSICLE_OK);
    CHECK(ossicle_tokenizer_layout(&config, &layout, &error) == OSSICLE_OK);
    CHECK(ossicle_memory_new(layout, &region) == OSSICLE_OK);
    CHECK(ossicle_tokenizer_new(region, layout.size, &config, &tokenizer, &error) == OSSICLE_OK);
    CHECK(ossicle_tokenizer_special(tokenizer, text_of("<|start|>"), &start) == OSSICLE_OK && start == 200006);
    CHECK(ossicle_memory_free(region, layout) == OSSICLE_OK);
    layout.align = 3;
    CHECK(ossicle_memory_new(layout, &region) == OSSICLE_ERROR_ARGUMENT);
    layout = (ossicle_layout){.size = SIZE_MAX / 4, .align = 64};
    CHECK(ossicle_memory_new(layout, &region) == OSSICLE_ERROR_MEMORY);
}

/* The caches of a large context are asked for long before they are used. */
static void large_blocks(void) {
    const ossicle_layout layout = {.size = (size_t)1 << 30, .align = 64};
    struct rusage before, after;
    void *region = NULL;
    getrusage(RUSAGE_SELF, &before);
    CHECK(ossicle_memory_new(layout, &region) == OSSICLE_OK);
    getrusage(RUSAGE_SELF, &after);
    CHECK(after.ru_maxrss - before.ru_maxrss < (1 << 20) / 2);
    CHECK(ossicle_memory_free(region, layout) == OSSICLE_OK);
}

/* A program may know fewer fields of a struct that is filled in, or more. */
static void sizes_of_structs(const ossicle_threads *threads) {
    struct {
        ossicle_host known;
        uint64_t unknown;
    } host = {.unknown = 7};
    CHECK(ossicle_threads_lend(threads, &host.known) == OSSICLE_ERROR_STRUCT_SIZE && host.known.clock == NULL);
    host.known.struct_size = offsetof(ossicle_host, clock);
    CHECK(ossicle_threads_lend(threads, &host.known) == OSSICLE_OK);
    CHECK(host.known.workers == 2 && host.known.parallel != NULL && host.known.clock == NULL && host.unknown == 7);
    host.known.struct_size = sizeof host;
    CHECK(ossicle_threads_lend(threads, &host.known) == OSSICLE_OK);
    CHECK(host.known.clock != NULL && host.unknown == 0 && host.known.struct_size == sizeof host);
}

static void pools(const char *gguf) {
    ossicle_threads *threads = NULL;
    ossicle_host host = {.struct_size = sizeof host};
    uint32_t position = 0, tokens[5] = {1, 2, 3, 4, 5};
    CHECK(ossicle_threads_open(3, &threads) == OSSICLE_OK);
    sizes_of_structs(threads);
    CHECK(ossicle_threads_lend(threads, &host) == OSSICLE_OK && host.workers == 2 && host.clock != NULL);
    ossicle_bytes file = file_at(gguf);
    engine engine = engine_with_session(file);
    CHECK(ossicle_session_start(engine.session, tokens, 5, OSSICLE_LOGITS_LAST, &error) == OSSICLE_OK);
    int32_t status;
    while ((status = ossicle_session_step(engine.session, &host, 100, &error)) == OSSICLE_MORE)
        ;
    CHECK(status == OSSICLE_OK);
    CHECK(ossicle_session_position(engine.session, &position) == OSSICLE_OK && position == 5);
    CHECK(ossicle_threads_close(threads) == OSSICLE_OK);
    engine_end(&engine);
    free((void *)(uintptr_t)file.start);
}

static void chats(const char *gguf) {
    ossicle_chat *chat = NULL;
    ossicle_generation *generation = NULL;
    ossicle_turn *turn = NULL;
    ossicle_host host = {.struct_size = sizeof host};
    const ossicle_event *event = NULL;
    ossicle_session_config session = {.struct_size = sizeof session, .context_tokens = 1000};
    ossicle_chat_config config = {.struct_size = sizeof config, .threads = 2, .session = &session};
    ossicle_turn_config answer = {.struct_size = sizeof answer, .max_tokens = 10};
    CHECK(ossicle_chat_open(gguf, &config, &chat, &error) == OSSICLE_OK);
    CHECK(ossicle_chat_next(chat, &event, &error) == OSSICLE_ERROR_STATE);
    /* What cannot be answered as asked is not said. */
    const uint32_t *tokens = NULL;
    size_t before = 0, after = 0;
    CHECK(ossicle_chat_parts(chat, &generation, &turn, &host) == OSSICLE_OK && turn == NULL);
    CHECK(ossicle_generation_tokens(generation, &tokens, &before) == OSSICLE_OK && before > 10);
    ossicle_text stop = {"", 0};
    ossicle_turn_config refused = {.struct_size = sizeof refused, .stop = &stop, .stop_count = 1};
    CHECK(ossicle_chat_ask(chat, text_of("Hello"), &refused, &error) == OSSICLE_ERROR_SETTING);
    refused.struct_size = 0;
    CHECK(ossicle_chat_ask(chat, text_of("Hello"), &refused, &error) == OSSICLE_ERROR_STRUCT_SIZE);
    CHECK(ossicle_chat_ask(chat, text_of("\xff"), &answer, &error) == OSSICLE_ERROR_ARGUMENT);
    CHECK(ossicle_generation_tokens(generation, &tokens, &after) == OSSICLE_OK && after == before);
    CHECK(ossicle_chat_ask(chat, text_of("Hello"), &answer, &error) == OSSICLE_OK);
    while (ossicle_chat_next(chat, &event, &error) == OSSICLE_MORE)
        ;
    CHECK(event->kind == OSSICLE_EVENT_STOP && event->output_tokens == 10);
    CHECK(ossicle_chat_parts(chat, &generation, &turn, &host) == OSSICLE_OK && turn != NULL);
    CHECK(ossicle_generation_append_json(generation, text_of("{\"messages\": 3}"), &error) == OSSICLE_ERROR_RENDER);
    CHECK(ossicle_generation_append_json(
              generation, text_of("{\"messages\": [{\"role\": \"user\", \"content\": \"And now?\"}]}"), &error)
          == OSSICLE_OK);
    CHECK(ossicle_chat_ask(chat, (ossicle_text){NULL, 0}, &answer, &error) == OSSICLE_OK);
    while (ossicle_chat_next(chat, &event, &error) == OSSICLE_MORE)
        ;
    CHECK(event->kind == OSSICLE_EVENT_STOP && event->cached_tokens > 100);
    CHECK(ossicle_chat_close(chat) == OSSICLE_OK);
}

int main(int argc, char **argv) {
    CHECK(argc == 3);
    checkpoints(argv[1], argv[2]);
    vocabularies();
    large_blocks();
    pools(argv[1]);
    chats(argv[1]);
    return 0;
}
