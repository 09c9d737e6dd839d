/* Asks a question and prints the answer: hello MODEL [QUESTION]. */
#include <ossicle.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
    ossicle_chat *chat = NULL;
    ossicle_error error = {.struct_size = sizeof error};
    const ossicle_event *event;
    const char *question = argc > 2 ? argv[2] : "Why is the sky blue?";
    if (argc < 2 || ossicle_chat_open(argv[1], NULL, &chat, &error) < 0
        || ossicle_chat_ask(chat, (ossicle_text){question, strlen(question)}, NULL, &error) < 0)
        return fprintf(stderr, "%s\n", error.text), 1;
    while (ossicle_chat_next(chat, &event, &error) == OSSICLE_MORE)
        if (event->kind == OSSICLE_EVENT_DELTA && event->message == OSSICLE_MESSAGE_ANSWER)
            fwrite(event->text.start, 1, event->text.size, stdout);
    return ossicle_chat_close(chat) < 0 || error.status < 0;
}
