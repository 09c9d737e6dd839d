/*
 * A model that computes with Python. The library runs what it writes, and the model goes on with what that prints.
 *
 *     python MODEL [QUESTION]
 *
 * The code runs in a box that bubblewrap makes, on Linux: it reaches no files and no network. Ctrl-C ends the answer, and code
 * that runs.
 */
#include <ossicle.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static ossicle_chat *chat;

static void interrupt(int number) {
    (void)number;
    ossicle_chat_cancel(chat);
}

int main(int argc, char **argv) {
    const char *question = argc > 2 ? argv[2] : "What is the sum of the numbers from 3 to 120?";
    const ossicle_chat_config config = {.struct_size = sizeof config, .tools = OSSICLE_TOOL_PYTHON};
    const ossicle_sampler_config likeliest = {.struct_size = sizeof likeliest, .greedy = 1};
    const ossicle_turn_config answer = {.struct_size = sizeof answer, .max_tokens = 400, .sampler = &likeliest};

    ossicle_error error = {.struct_size = sizeof error, .text = "python MODEL [QUESTION]"};
    const ossicle_event *event;
    int32_t status = OSSICLE_ERROR_ARGUMENT;
    if (argc > 1 && (status = ossicle_chat_open(argv[1], &config, &chat, &error)) >= 0) {
        signal(SIGINT, interrupt);
        status = ossicle_chat_ask(chat, (ossicle_text){question, strlen(question)}, &answer, &error);
    }
    while (status >= 0 && (status = ossicle_chat_next(chat, &event, &error)) == OSSICLE_MORE) {
        const int is_delta = event->kind == OSSICLE_EVENT_DELTA;
        if (is_delta && event->message == OSSICLE_MESSAGE_ANSWER)
            fwrite(event->text.start, 1, event->text.size, stdout);
        if (event->kind == OSSICLE_EVENT_TOOL_RESULT || (is_delta && event->message == OSSICLE_MESSAGE_TOOL_CALL))
            fwrite(event->text.start, 1, event->text.size, stderr);
        if (event->kind == OSSICLE_EVENT_MESSAGE_END && event->message == OSSICLE_MESSAGE_TOOL_CALL)
            fputs("\n= ", stderr);
    }
    if (status < 0)
        fprintf(stderr, "%s\n", error.text);
    signal(SIGINT, SIG_DFL);
    return ossicle_chat_close(chat) < 0 || status < 0;
}
