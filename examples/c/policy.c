/*
 * A policy that sees every text before anybody else does, and a tool that the library calls by itself.
 *
 *     policy MODEL [QUESTION]
 *
 * The library carries a call out through the program's callback and lets the model go on, in the same answer. Before that, the
 * policy sees the call: here it keeps the red gate shut, whatever the model wants.
 */
#include <ossicle.h>
#include <stdio.h>
#include <string.h>

static ossicle_text text_of(const char *text) {
    return (ossicle_text){text, strlen(text)};
}

static int contains(ossicle_text text, const char *word) {
    const size_t size = strlen(word);
    for (size_t at = 0; at + size <= text.size; at++)
        if (memcmp(text.start + at, word, size) == 0)
            return 1;
    return 0;
}

static uint32_t judge(void *data, const ossicle_subject *subject, ossicle_text *other) {
    static const char *const NAMES[] = {"", "prompt", "tool call", "tool result", "answer"};
    (void)data;
    fprintf(stderr, "judged: %s: %.*s\n", NAMES[subject->kind], (int)subject->text.size, subject->text.start);
    if (subject->kind != OSSICLE_SUBJECT_TOOL_CALL || !contains(subject->text, "red"))
        return OSSICLE_VERDICT_ALLOW;
    *other = text_of("the red gate stays shut");
    return OSSICLE_VERDICT_STOP;
}

/* The tool. Its argument was written by the model: text like any other from outside, to be checked before it is used. */
static int32_t open_door(void *data, ossicle_text tool, ossicle_text argument, ossicle_text *result) {
    (void)data;
    if (!contains(tool, "functions.open_door"))
        return 1; /* not one of the program's */
    *result = contains(argument, "gate") ? text_of("{\"ok\":true}") : text_of("{\"ok\":false}");
    return 0;
}

int main(int argc, char **argv) {
    const ossicle_tool tool = {
        .struct_size = sizeof tool,
        .name = text_of("open_door"),
        .description = text_of("Opens a door."),
        .parameters = text_of("{\"type\":\"object\",\"properties\":{\"door\":{\"type\":\"string\",\"description\":"
                              "\"What to open.\"}},\"required\":[\"door\"]}"),
    };
    const ossicle_developer developer = {.struct_size = sizeof developer, .tools = &tool, .tool_count = 1};
    const ossicle_text callable = text_of("functions.open_door");
    const ossicle_chat_config config = {.struct_size = sizeof config, .developer = &developer};
    const ossicle_sampler_config likeliest = {.struct_size = sizeof likeliest, .greedy = 1};
    const ossicle_turn_config answer = {.struct_size = sizeof answer,
                                        .max_tokens = 200,
                                        .sampler = &likeliest,
                                        .recipients = &callable,
                                        .recipient_count = 1};
    const ossicle_chat_host host = {.struct_size = sizeof host, .policy = judge, .tool = open_door};

    ossicle_error error = {.struct_size = sizeof error, .text = "policy MODEL [QUESTION]"};
    const ossicle_text question = text_of(argc > 2 ? argv[2] : "Open the green gate.");
    ossicle_chat *chat = NULL;
    const ossicle_event *event;
    int32_t status = OSSICLE_ERROR_ARGUMENT;
    if (argc < 2 || (status = ossicle_chat_open(argv[1], &config, &chat, &error)) < 0
        || (status = ossicle_chat_lend(chat, &host, &error)) < 0
        || (status = ossicle_chat_ask(chat, question, &answer, &error)) < 0)
        fprintf(stderr, "%s\n", error.text);
    while (status >= 0 && (status = ossicle_chat_next(chat, &event, &error)) == OSSICLE_MORE) {
        if (event->kind == OSSICLE_EVENT_DELTA && event->message == OSSICLE_MESSAGE_ANSWER)
            fwrite(event->text.start, 1, event->text.size, stdout);
        if (event->kind == OSSICLE_EVENT_STOP && event->reason == OSSICLE_STOP_POLICY)
            fprintf(stderr, "stopped: %.*s\n", (int)event->text.size, event->text.start);
    }
    if (status < 0)
        fprintf(stderr, "%s\n", error.text);
    return ossicle_chat_close(chat) < 0 || status < 0;
}
