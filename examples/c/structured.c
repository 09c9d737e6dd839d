/*
 * An answer that a program can read: JSON that meets a schema. The model reasons freely before it.
 *
 *     structured MODEL [TEXT]
 *
 * The schema is compiled once. While the answer is written, only tokens are drawn that keep it on its way to a value that meets
 * the schema. What of a schema cannot be enforced is refused, with its place; the program begins with such a one.
 */
#include <ossicle.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ORDER                                                                                                   \
    "{\"type\": \"object\", \"properties\": {\"item\": {\"type\": \"string\", \"maxLength\": 20}, \"count\": "       \
    "{\"type\": \"integer\", \"minimum\": 1, \"maximum\": 99}}, \"required\": [\"item\", \"count\"], "                \
    "\"additionalProperties\": false}"
#define WRONG "{\"type\": \"object\", \"properties\": {\"count\": {\"not\": {\"maximum\": 0}}}}"

static ossicle_error error = {.struct_size = sizeof error, .text = "structured MODEL [TEXT]"};

/* All went well, or the program ends. */
static void demand(int32_t status) {
    if (status < 0) {
        fprintf(stderr, "%s\n", error.text);
        exit(1);
    }
}

static ossicle_text text_of(const char *text) {
    return (ossicle_text){text, strlen(text)};
}

/* A block of memory, and what it was asked for. */
typedef struct block {
    ossicle_layout layout;
    void *start;
} block;

static ossicle_token_index *index_of(const ossicle_tokenizer *tokenizer, block *block) {
    ossicle_token_index *index;
    demand(ossicle_token_index_layout(tokenizer, &block->layout, &error));
    demand(ossicle_memory_new(block->layout, &block->start));
    demand(ossicle_token_index_new(tokenizer, block->start, block->layout.size, &index, &error));
    return index;
}

static int32_t compile(const ossicle_token_index *index, const char *text, block *block, ossicle_schema **schema) {
    const ossicle_schema_config config = {.struct_size = sizeof config, .text = text_of(text)};
    demand(ossicle_schema_layout(index, &config, &block->layout, &error));
    demand(ossicle_memory_new(block->layout, &block->start));
    return ossicle_schema_new(index, block->start, block->layout.size, &config, schema, &error);
}

int main(int argc, char **argv) {
    /* The model is told the schema too: it then writes what it means, and is not only kept from all else. */
    const ossicle_response_format format = {
        .struct_size = sizeof format, .name = text_of("order"), .schema = text_of(ORDER)};
    const ossicle_developer developer = {.struct_size = sizeof developer,
                                         .instructions = text_of("Answer in the response format."),
                                         .response_formats = &format,
                                         .response_format_count = 1};
    const ossicle_chat_config config = {.struct_size = sizeof config, .developer = &developer};
    const ossicle_tokenizer *tokenizer;
    ossicle_chat *chat = NULL;
    demand(argc < 2 ? OSSICLE_ERROR_ARGUMENT : ossicle_chat_open(argv[1], &config, &chat, &error));
    demand(ossicle_chat_tokenizer(chat, &tokenizer));

    /* One index serves all schemas; a schema serves one turn after another. */
    block blocks[3];
    ossicle_schema *schema = NULL;
    const ossicle_token_index *index = index_of(tokenizer, &blocks[0]);
    if (compile(index, WRONG, &blocks[1], &schema) < 0)
        fprintf(stderr, "refused: %s\n", error.text);
    demand(compile(index, ORDER, &blocks[2], &schema));

    /* Without a name of a tool, it is the answer that has to meet the schema. */
    const ossicle_constraint constraint = {.struct_size = sizeof constraint, .schema = schema};
    const ossicle_sampler_config sampler = {.struct_size = sizeof sampler, .greedy = 1};
    const ossicle_turn_config answer = {.struct_size = sizeof answer,
                                        .reasoning = OSSICLE_REASONING_LIMITED,
                                        .reasoning_tokens = 60,
                                        .sampler = &sampler,
                                        .constraints = &constraint,
                                        .constraint_count = 1};
    demand(ossicle_chat_ask(chat, text_of(argc > 2 ? argv[2] : "We need 42 apples."), &answer, &error));
    const ossicle_event *event;
    int32_t status;
    uint32_t stop = OSSICLE_STOP_FINISHED;
    while ((status = ossicle_chat_next(chat, &event, &error)) == OSSICLE_MORE) {
        if (event->kind == OSSICLE_EVENT_DELTA)
            fwrite(event->text.start, 1, event->text.size, event->message == OSSICLE_MESSAGE_ANSWER ? stdout : stderr);
        if (event->kind == OSSICLE_EVENT_STOP)
            stop = event->reason;
    }
    demand(status);
    if (stop != OSSICLE_STOP_FINISHED)
        fprintf(stderr, "\nthe answer was cut off\n");
    demand(ossicle_chat_close(chat));
    for (int place = 0; place < 3; place++)
        demand(ossicle_memory_free(blocks[place].start, blocks[place].layout));
    return stop != OSSICLE_STOP_FINISHED;
}
