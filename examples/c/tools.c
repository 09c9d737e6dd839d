/*
 * A model that calls a function of the program, and goes on with what it returns.
 *
 *     tools MODEL [QUESTION]
 *
 * A tool call is a message whose recipient is the tool, and whose text is the argument. The turn stops there. The program
 * does what it thinks right, appends the result as a message of the tool, and begins the next turn.
 */
#include <ossicle.h>
#include <stdio.h>
#include <string.h>

/* A model may well call again and again. */
enum { MOST_CALLS = 4 };

static ossicle_text text_of(const char *text) {
    return (ossicle_text){text, strlen(text)};
}

/* The tool. Its argument was written by the model: text like any other from outside, to be checked before it is used. */
static const char *temperature_in(const char *argument) {
    return strstr(argument, "\"Oslo\"") != NULL ? "{\"celsius\": -3}" : "{\"error\": \"no such place\"}";
}

int main(int argc, char **argv) {
    const ossicle_tool tool = {
        .struct_size = sizeof tool,
        .name = text_of("temperature"),
        .description = text_of("How warm it is in a city."),
        .parameters = text_of("{\"type\": \"object\", \"properties\": {\"city\": {\"type\": \"string\"}}, "
                              "\"required\": [\"city\"]}"),
    };
    /* What the model is told, and which of it the turn lets it call. */
    const ossicle_developer developer = {.struct_size = sizeof developer, .tools = &tool, .tool_count = 1};
    const ossicle_text callable = text_of("functions.temperature");
    const ossicle_chat_config config = {.struct_size = sizeof config, .developer = &developer};
    const ossicle_turn_config answer = {
        .struct_size = sizeof answer, .max_tokens = 200, .recipients = &callable, .recipient_count = 1};

    ossicle_error error = {.struct_size = sizeof error, .text = "tools MODEL [QUESTION]"};
    ossicle_text question = text_of(argc > 2 ? argv[2] : "Do I need a coat in Oslo?");
    ossicle_chat *chat = NULL;
    if (argc < 2 || ossicle_chat_open(argv[1], &config, &chat, &error) < 0)
        return fprintf(stderr, "%s\n", error.text), 1;

    int32_t status = OSSICLE_OK;
    uint32_t stop = OSSICLE_STOP_TOOL_CALL;
    for (int calls = 0; status >= 0 && stop == OSSICLE_STOP_TOOL_CALL && calls <= MOST_CALLS; calls++) {
        char argument[1024] = "";
        size_t size = 0;
        const ossicle_event *event;
        status = ossicle_chat_ask(chat, question, &answer, &error);
        while (status >= 0 && (status = ossicle_chat_next(chat, &event, &error)) == OSSICLE_MORE) {
            const int is_delta = event->kind == OSSICLE_EVENT_DELTA;
            if (is_delta && event->message == OSSICLE_MESSAGE_ANSWER)
                fwrite(event->text.start, 1, event->text.size, stdout);
            if (is_delta && event->message == OSSICLE_MESSAGE_TOOL_CALL && event->text.size < sizeof argument - size) {
                memcpy(argument + size, event->text.start, event->text.size);
                size += event->text.size;
            }
            if (event->kind == OSSICLE_EVENT_STOP)
                stop = event->reason;
        }
        if (status < 0 || stop != OSSICLE_STOP_TOOL_CALL)
            break;

        const char *result = temperature_in(argument);
        fprintf(stderr, "temperature(%s) = %s\n", argument, result);
        const ossicle_message message = {.struct_size = sizeof message,
                                         .role = OSSICLE_ROLE_TOOL,
                                         .name = callable,
                                         .recipient = text_of("assistant"),
                                         .channel = text_of("commentary"),
                                         .text = text_of(result)};
        ossicle_generation *generation;
        ossicle_turn *turn;
        ossicle_host host = {.struct_size = sizeof host};
        ossicle_chat_parts(chat, &generation, &turn, &host);
        status = ossicle_generation_append(generation, &message, 1, &error);
        question = (ossicle_text){NULL, 0}; /* nobody says anything: the model goes on */
    }
    if (status < 0)
        fprintf(stderr, "%s\n", error.text);
    return ossicle_chat_close(chat) < 0 || status < 0;
}
