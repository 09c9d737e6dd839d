/* Calls take no more stack than the header says: stack MODEL. */
#define _GNU_SOURCE
#include "check.h"

#include <pthread.h>

enum { STACK = 1 << 20, MOST = 64 << 10, MOST_FOR_TOOLS = 192 << 10 };

static unsigned char *stack;
static engine with_turn, with_session;
static ossicle_message question, tools;
static void *scratch;
static uint32_t tokens[8192];
static size_t count;
static ossicle_turn *turn;
static ossicle_turn_config config;

static void nothing(void) {}

static void render_tools(void) {
    CHECK(ossicle_harmony_render(with_turn.tokenizer, &tools, 1, NULL, scratch, 1 << 20, tokens, 8192, &count, &error)
          == OSSICLE_OK);
}

static void encode(void) {
    CHECK(ossicle_tokenizer_encode(with_turn.tokenizer, question.text, OSSICLE_SPECIALS_ALL, tokens, 8192, &count)
          == OSSICLE_OK);
}

static void append(void) {
    CHECK(ossicle_generation_append(with_turn.generation, &question, 1, &error) == OSSICLE_OK);
}

static void replace(void) {
    CHECK(ossicle_generation_replace(with_turn.generation, &question, 1, &error) == OSSICLE_OK);
}

static void make_turn(void) {
    turn = turn_of(&with_turn, &config);
}

static void run_turn(void) {
    const ossicle_event *event = NULL;
    int32_t status;
    while ((status = ossicle_turn_next(turn, NULL, &event, &error)) == OSSICLE_MORE)
        ;
    CHECK(status == OSSICLE_OK);
}

static void run_session(void) {
    const uint32_t few[3] = {1, 2, 3};
    CHECK(ossicle_session_start(with_session.session, few, 3, OSSICLE_LOGITS_LAST, &error) == OSSICLE_OK);
    while (ossicle_session_step(with_session.session, NULL, 1, &error) == OSSICLE_MORE)
        ;
}

static void *enter(void *work) {
    (*(void (**)(void))work)();
    return NULL;
}

/* Bytes of the stack of a thread that are not as they were. */
static size_t touched_by(void (*work)(void)) {
    pthread_attr_t attributes;
    pthread_t thread;
    size_t untouched = 0;
    memset(stack, 0xa5, STACK);
    CHECK(pthread_attr_init(&attributes) == 0 && pthread_attr_setstack(&attributes, stack, STACK) == 0);
    CHECK(pthread_create(&thread, &attributes, enter, &work) == 0 && pthread_join(thread, NULL) == 0);
    CHECK(pthread_attr_destroy(&attributes) == 0);
    while (untouched < STACK && stack[untouched] == 0xa5)
        untouched++;
    return STACK - untouched;
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    ossicle_bytes file = file_at(argv[1]);
    with_turn = engine_with_generation(file);
    with_session = engine_with_session(file);
    scratch = region_of((ossicle_layout){.size = 1 << 20, .align = 64});
    CHECK(posix_memalign((void **)&stack, 1 << 16, STACK) == 0);

    /* Words that are no tokens, and a type within a type. */
    static char text[1000], parameters[2000];
    for (int each = 0; each < 200; each++)
        strcat(text, each % 50 == 0 ? " \xc3\xa9\xe6\x97\xa5?!" : "qjx");
    for (int each = 0; each < 40; each++)
        strcat(parameters, "{\"type\":\"object\",\"properties\":{\"a\":");
    strcat(parameters, "{}");
    for (int each = 0; each < 40; each++)
        strcat(parameters, "}}");
    const ossicle_tool tool = {
        .struct_size = sizeof tool, .name = text_of("f"), .description = text_of(""), .parameters = text_of(parameters)};
    const ossicle_developer developer = {.struct_size = sizeof developer, .tools = &tool, .tool_count = 1};
    tools = (ossicle_message){.struct_size = sizeof tools, .role = OSSICLE_ROLE_DEVELOPER, .developer = &developer};
    question = (ossicle_message){.struct_size = sizeof question, .text = text_of(text)};
    config = turn_config();

    void (*const works[])(void) = {encode, replace, append, make_turn, run_turn, run_session};
    const size_t of_threads = touched_by(nothing);
    for (size_t work = 0; work < sizeof works / sizeof *works; work++)
        CHECK(touched_by(works[work]) - of_threads < MOST);
    CHECK(touched_by(render_tools) - of_threads < MOST_FOR_TOOLS);

    free(stack);
    free(scratch);
    engine_end(&with_turn);
    engine_end(&with_session);
    free((void *)(uintptr_t)file.start);
    return 0;
}
