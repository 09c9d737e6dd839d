/*
 * Tools that a chat carries out by itself:
 *
 *     chat_tools MODEL none            where there is no box for Python
 *     chat_tools MODEL python
 *     chat_tools MODEL browser URL     the address of a SearXNG
 *
 * The model is random, so a sampler leads it to call, and a mask writes the argument.
 */
#define _POSIX_C_SOURCE 200809L
#include "led.h"
#include <pthread.h>
#include <time.h>

/* What the model writes to its tool, call by call. After the last the answer is cancelled. */
typedef struct script {
    ossicle_chat *chat;
    const ossicle_tokenizer *tokenizer;
    const char *const *arguments;
    int count, call;
    uint32_t tokens[256];
    size_t token_count, at;
    /* Before this call, milliseconds. */
    int pause_call, pause;
    int is_cancelled_by_thread;
} script;

static void wait_for(int milliseconds) {
    const struct timespec time = {milliseconds / 1000, (long)(milliseconds % 1000) * 1000000};
    nanosleep(&time, NULL);
}

static void *cancel_later(void *chat) {
    wait_for(500);
    CHECK(ossicle_chat_cancel(chat) == OSSICLE_OK);
    return NULL;
}

static void begin(void *data) {
    script *script = data;
    const ossicle_event *event;
    /* A callback cannot use the chat that calls it, but it can end the answer. */
    CHECK(ossicle_chat_next(script->chat, &event, NULL) == OSSICLE_ERROR_BUSY);
    CHECK(ossicle_chat_close(script->chat) == OSSICLE_ERROR_BUSY);
    if (script->call == script->pause_call)
        wait_for(script->pause);
    if (script->call == script->count) {
        CHECK(ossicle_chat_cancel(script->chat) == OSSICLE_OK);
        script->token_count = script->at = 0;
        return;
    }
    CHECK(ossicle_tokenizer_encode(script->tokenizer, text_of(script->arguments[script->call++]), OSSICLE_SPECIALS_NONE,
                                   script->tokens, 256, &script->token_count)
          == OSSICLE_OK);
    script->at = 0;
}

static int32_t allowed(void *data, uint32_t *words, size_t count, uint32_t *may_end) {
    const script *script = data;
    memset(words, 0, count * sizeof *words);
    if (script->at < script->token_count)
        words[script->tokens[script->at] / 32] |= UINT32_C(1) << script->tokens[script->at] % 32;
    *may_end = script->at == script->token_count;
    return 0;
}

static void accept(void *data, uint32_t token) {
    script *script = data;
    CHECK(token == script->tokens[script->at++]);
}

/* What the tool answered to these arguments, one after the other. */
static void run(script *script, const char *tool, const char *const *arguments, int count, char results[][2048]) {
    const ossicle_token_mask mask = {
        .struct_size = sizeof mask, .data = script, .begin = begin, .allowed = allowed, .accept = accept};
    const ossicle_constraint constraint = {.struct_size = sizeof constraint, .tool = text_of(tool), .mask = &mask};
    const ossicle_turn_config config = {
        .struct_size = sizeof config, .sampler = &led, .constraints = &constraint, .constraint_count = 1};
    const ossicle_event *event;
    int32_t status;
    int answered = 0, is_over = 0;
    script->arguments = arguments;
    script->count = count;
    script->call = 0;
    CHECK(ossicle_chat_ask(script->chat, text_of("Go."), &config, &error) == OSSICLE_OK);
    while ((status = ossicle_chat_next(script->chat, &event, &error)) == OSSICLE_MORE) {
        CHECK(!is_over);
        if (event->kind == OSSICLE_EVENT_TOOL_RESULT) {
            CHECK(event->name.size == strlen(tool) && memcmp(event->name.start, tool, event->name.size) == 0);
            CHECK(answered < count && event->text.size < sizeof results[answered]);
            memcpy(results[answered], event->text.start, event->text.size);
            results[answered++][event->text.size] = '\0';
        }
        is_over = event->kind == OSSICLE_EVENT_STOP;
        CHECK(!is_over || event->reason == OSSICLE_STOP_CANCELLED);
    }
    CHECK(status == OSSICLE_OK && is_over && answered == count);
}

static void open_chat(script *script, const char *path, ossicle_chat_config *config) {
    config->struct_size = sizeof *config;
    config->threads = 1;
    *script = (struct script){.pause_call = -1};
    CHECK(ossicle_chat_open(path, config, &script->chat, &error) == OSSICLE_OK);
    CHECK(ossicle_chat_tokenizer(script->chat, &script->tokenizer) == OSSICLE_OK);
}

#define SAYS(text, expected) CHECK(strcmp(text, expected) == 0)

static void python(const char *path) {
    static char results[4][2048];
    static const char *const cells[] = {"x = 6\nx * 7", "import os\nprint(x, os.getuid())"};
    static const char *const ends[] = {"import os, threading\nthreading.Timer(0.1, os._exit, [0]).start()", "x", "1 + 1"};
    static const char *const endless[] = {"while True: pass"};
    static const char *const after[] = {"2 + 2"};
    script script;
    ossicle_chat_config config = {.tools = OSSICLE_TOOL_PYTHON};
    open_chat(&script, path, &config);
    lead(script.tokenizer, "<|call|>", 90.0f);
    lead(script.tokenizer, " to=python", 60.0f);
    lead(script.tokenizer, "commentary", 60.0f);
    lead(script.tokenizer, "<|message|>", 30.0f);
    run(&script, "python", cells, 2, results);
    SAYS(results[0], "42\n");
    SAYS(results[1], "6 65534\n");
    /* Code that ends the interpreter, while nobody looks, ends nothing else. */
    script.pause_call = 1;
    script.pause = 1000;
    run(&script, "python", ends, 3, results);
    SAYS(results[1], "[ERROR] the interpreter ended; what was defined before is lost\n");
    SAYS(results[2], "2\n");
    script.pause_call = -1;
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, cancel_later, script.chat) == 0);
    run(&script, "python", endless, 1, results);
    CHECK(pthread_join(thread, NULL) == 0);
    SAYS(results[0], "[ERROR] cancelled; what was defined before is lost\n");
    run(&script, "python", after, 1, results);
    SAYS(results[0], "4\n");
    CHECK(ossicle_chat_close(script.chat) == OSSICLE_OK);
}

static void browser(const char *path, const char *engine) {
    static char results[2][2048];
    static const char *const calls[] = {"{\"query\":\"boats\"}", "{}"};
    script script;
    ossicle_chat_config config = {.tools = OSSICLE_TOOL_BROWSER, .search_engine = text_of(engine)};
    open_chat(&script, path, &config);
    lead(script.tokenizer, "<|call|>", 90.0f);
    lead(script.tokenizer, " to=browser.search", 60.0f);
    lead(script.tokenizer, "commentary", 60.0f);
    lead(script.tokenizer, "<|message|>", 30.0f);
    run(&script, "browser.search", calls, 2, results);
    CHECK(strstr(results[0], "[0] boats\n") == results[0] && strstr(results[0], "Harbour") != NULL);
    SAYS(results[1], "Error: query: expected a string");
    CHECK(ossicle_chat_close(script.chat) == OSSICLE_OK);
}

static void refusals(const char *path) {
    ossicle_chat *chat = NULL;
    const ossicle_chat_config refused[] = {
        {.struct_size = sizeof *refused, .tools = 4},
        {.struct_size = sizeof *refused, .reserved = 1},
        {.struct_size = sizeof *refused, .tools = OSSICLE_TOOL_BROWSER},
        {.struct_size = sizeof *refused, .tools = OSSICLE_TOOL_BROWSER, .search_engine = text_of("exa")},
        {.struct_size = sizeof *refused, .search_engine = text_of("http://localhost")},
        {.struct_size = sizeof *refused, .search_key = text_of("key")},
        {.struct_size = sizeof *refused,
         .tools = OSSICLE_TOOL_BROWSER,
         .search_engine = text_of("http://localhost"),
         .search_key = text_of("key")},
        {.struct_size = sizeof *refused, .tools = OSSICLE_TOOL_BROWSER, .search_engine = text_of("nonsense")},
    };
    for (size_t index = 0; index < sizeof refused / sizeof *refused; index++)
        CHECK(ossicle_chat_open(path, refused + index, &chat, &error) == OSSICLE_ERROR_ARGUMENT && chat == NULL);
    CHECK(strstr(error.text, "nonsense") != NULL);
    /* An answer of a chat without tools can be ended too, and what was wanted before it was asked for is forgotten. */
    const ossicle_event *event;
    CHECK(ossicle_chat_open(path, NULL, &chat, &error) == OSSICLE_OK && ossicle_chat_cancel(chat) == OSSICLE_OK);
    CHECK(ossicle_chat_ask(chat, text_of("Go."), NULL, &error) == OSSICLE_OK);
    CHECK(ossicle_chat_next(chat, &event, &error) == OSSICLE_MORE && event->kind == OSSICLE_EVENT_MESSAGE_BEGIN);
    CHECK(ossicle_chat_cancel(chat) == OSSICLE_OK);
    while (ossicle_chat_next(chat, &event, &error) == OSSICLE_MORE && event->kind != OSSICLE_EVENT_STOP) {
    }
    CHECK(event->reason == OSSICLE_STOP_CANCELLED && ossicle_chat_next(chat, &event, &error) == OSSICLE_OK);
    CHECK(ossicle_chat_close(chat) == OSSICLE_OK);
}

int main(int argc, char **argv) {
    CHECK(argc >= 3);
    refusals(argv[1]);
    if (strcmp(argv[2], "python") == 0) {
        python(argv[1]);
    } else if (strcmp(argv[2], "browser") == 0 && argc == 4) {
        browser(argv[1], argv[3]);
    } else {
        ossicle_chat *chat = NULL;
        const ossicle_chat_config config = {.struct_size = sizeof config, .tools = OSSICLE_TOOL_PYTHON};
        CHECK(ossicle_chat_open(argv[1], &config, &chat, &error) == OSSICLE_ERROR_TOOL && chat == NULL);
        CHECK(strstr(error.text, "bwrap") != NULL);
    }
    return 0;
}
