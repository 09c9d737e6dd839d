/* Answers and arguments keep to schemas and masks, and what is wrong with those is told: structured MODEL OTHER_MODEL. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#include <pthread.h>

#define ANSWER                                                                                         \
    "{\"type\":\"object\",\"properties\":{\"ok\":{\"type\":\"boolean\"},\"n\":{\"type\":\"integer\","  \
    "\"minimum\":0,\"maximum\":9}},\"required\":[\"ok\",\"n\"],\"additionalProperties\":false}"
#define ARGUMENT                                                                                       \
    "{\"type\":\"object\",\"properties\":{\"q\":{\"enum\":[\"x\",\"y\"]}},\"required\":[\"q\"],"       \
    "\"additionalProperties\":false}"

static ossicle_token_index *index_of(const ossicle_tokenizer *tokenizer, void **region) {
    ossicle_layout layout;
    ossicle_token_index *index = NULL;
    CHECK(ossicle_token_index_layout(tokenizer, &layout, &error) == OSSICLE_OK);
    *region = region_of(layout);
    CHECK(ossicle_token_index_new(tokenizer, *region, layout.size - 1, &index, &error) == OSSICLE_ERROR_REGION_SIZE);
    CHECK(ossicle_token_index_new(tokenizer, *region, layout.size, &index, &error) == OSSICLE_OK);
    return index;
}

static ossicle_schema *schema_of(const ossicle_token_index *index, const char *text, void **region) {
    char *copy = malloc(strlen(text) + 1);
    strcpy(copy, text);
    ossicle_schema_config config = {.struct_size = sizeof config, .text = text_of(copy)};
    ossicle_layout layout;
    ossicle_schema *schema = NULL;
    CHECK(ossicle_schema_layout(index, &config, &layout, &error) == OSSICLE_OK);
    *region = region_of(layout);
    CHECK(ossicle_schema_new(index, *region, layout.size, &config, &schema, &error) == OSSICLE_OK);
    /* The text is not needed any more. */
    memset(copy, 'x', strlen(copy));
    free(copy);
    return schema;
}

/* What is wrong with a schema: its keyword, its path, its place. */
static void refusals(const ossicle_token_index *index) {
    static const struct {
        const char *text, *keyword, *path, *at;
    } schemas[] = {
        {"{\"properties\":{\"a/b\":{\"not\":{\"minimum\":1}}}}", "not: expected ", "#/properties/a~1b/not", "\"not\""},
        {"{\"items\":{\"pattern\":\"(?=a)\"}}", "pattern: expected ", "#/items/pattern", "\"pattern\""},
        {"{\"type\":\"array\",\"uniqueItems\":true}", "uniqueItems: expected ", "#/uniqueItems", "\"uniqueItems\""},
        {"{\"type\":\"strin\"}", "type: expected ", "#/type", "\"type\""},
        {"{\"$ref\":\"#/$defs/none\"}", "$ref: expected ", "#/$ref", "\"$ref\""},
    };
    for (size_t each = 0; each < sizeof schemas / sizeof *schemas; each++) {
        const char *text = schemas[each].text;
        ossicle_schema_config config = {.struct_size = sizeof config, .text = text_of(text)};
        ossicle_layout layout;
        ossicle_schema *schema = NULL;
        CHECK(ossicle_schema_layout(index, &config, &layout, &error) == OSSICLE_OK);
        void *region = region_of(layout);
        CHECK(ossicle_schema_new(index, region, layout.size, &config, &schema, &error) == OSSICLE_ERROR_SCHEMA);
        CHECK(schema == NULL && error.status == OSSICLE_ERROR_SCHEMA);
        CHECK(strstr(error.text, schemas[each].keyword) != NULL && strstr(error.text, schemas[each].path) != NULL);
        const char *at = strstr(text, schemas[each].at);
        CHECK(error.offset >= (size_t)(at - text) && error.offset <= (size_t)(at - text) + strlen(schemas[each].at) + 1);
        free(region);
    }
    ossicle_layout layout;
    ossicle_schema_config config = {.struct_size = sizeof config, .text = text_of("{\"type\": ")};
    CHECK(ossicle_schema_layout(index, &config, &layout, &error) == OSSICLE_ERROR_SCHEMA);
    CHECK(error.offset == 9 && strstr(error.text, "json: expected ") != NULL);
    config.text = text_of("\xff");
    CHECK(ossicle_schema_layout(index, &config, &layout, &error) == OSSICLE_ERROR_ARGUMENT);
    CHECK(ossicle_schema_layout(index, NULL, &layout, &error) == OSSICLE_ERROR_ARGUMENT);
    char *long_text = malloc(300000);
    memset(long_text, ' ', 300000);
    config.text = (ossicle_text){long_text, 300000};
    CHECK(ossicle_schema_layout(index, &config, &layout, &error) == OSSICLE_ERROR_SCHEMA);
    free(long_text);

    /* What is left out, if that is asked for. */
    char text[] = "{\"type\":\"array\",\"items\":{\"uniqueItems\":true},\"minItems\":1}";
    config.text = text_of(text);
    config.ignore_unsupported = 1;
    CHECK(ossicle_schema_layout(index, &config, &layout, &error) == OSSICLE_OK);
    char *region = region_of((ossicle_layout){layout.size + 64, 64});
    ossicle_schema *schema = NULL;
    CHECK(ossicle_schema_new(index, region + 8, layout.size, &config, &schema, &error) == OSSICLE_ERROR_REGION_ALIGN);
    for (size_t less = 1; less < layout.size; less *= 2)
        CHECK(ossicle_schema_new(index, region, layout.size - less, &config, &schema, &error)
              == OSSICLE_ERROR_REGION_SIZE);
    CHECK(ossicle_schema_new(index, region, layout.size, &config, NULL, &error) == OSSICLE_ERROR_ARGUMENT);
    CHECK(schema == NULL);
    CHECK(ossicle_schema_new(index, region, layout.size, &config, &schema, &error) == OSSICLE_OK);
    memset(text, 'x', sizeof text);
    ossicle_error warning = {.struct_size = sizeof warning};
    CHECK(ossicle_schema_warning(schema, 0, &warning) == OSSICLE_MORE);
    CHECK(warning.status == OSSICLE_ERROR_SCHEMA && strstr(warning.text, "uniqueItems: ") != NULL);
    CHECK(strstr(warning.text, "#/items/uniqueItems") != NULL);
    CHECK(ossicle_schema_warning(schema, 1, &warning) == OSSICLE_OK);
    CHECK(ossicle_schema_warning(schema, 0, NULL) == OSSICLE_ERROR_ARGUMENT);
    free(region);
}

/* What a turn has said. */
typedef struct told {
    char text[4096];
    size_t size;
    uint32_t message, reason, reasoning;
} told;

static int32_t listen(void *data, const ossicle_event *event) {
    told *told = data;
    if (event->kind == OSSICLE_EVENT_MESSAGE_BEGIN) {
        told->message = event->message;
        told->size = 0;
    }
    if (event->kind == OSSICLE_EVENT_DELTA && event->text.size < sizeof told->text - told->size) {
        memcpy(told->text + told->size, event->text.start, event->text.size);
        told->size += event->text.size;
    }
    if (event->kind == OSSICLE_EVENT_STOP) {
        told->reason = event->reason;
        told->reasoning = event->reasoning_tokens;
    }
    told->text[told->size] = 0;
    return 0;
}

/* The text is one of a list, white space aside: there is none in their strings. */
static int is_one_of(const char *text, const char *const *list) {
    char plain[4096];
    size_t size = 0;
    for (; *text != 0; text++)
        if (strchr(" \t\r\n", *text) == NULL)
            plain[size++] = *text;
    plain[size] = 0;
    for (; *list != NULL; list++)
        if (strcmp(plain, *list) == 0)
            return 1;
    return 0;
}

/* Several schemas in a turn: the answer has one, and the argument of a strict tool another. */
static void schemas_of_a_turn(ossicle_bytes file) {
    char answers[20][32];
    const char *answer_list[21] = {NULL};
    static const char *const argument_list[] = {"{\"q\":\"x\"}", "{\"q\":\"y\"}", NULL};
    for (int each = 0; each < 20; each++) {
        sprintf(answers[each], "{\"ok\":%s,\"n\":%d}", each % 2 ? "true" : "false", each / 2);
        answer_list[each] = answers[each];
    }
    engine engine = engine_with_generation(file);
    void *regions[3];
    const ossicle_token_index *index = index_of(engine.tokenizer, &regions[0]);
    const ossicle_text look = text_of("functions.look");
    const ossicle_constraint constraints[2] = {
        {.struct_size = sizeof *constraints, .schema = schema_of(index, ANSWER, &regions[1])},
        {.struct_size = sizeof *constraints, .tool = look, .schema = schema_of(index, ARGUMENT, &regions[2])},
    };
    const ossicle_message question = {.struct_size = sizeof question, .text = text_of("What is an ossicle?")};
    int finished = 0, called = 0, cut = 0, reasoned = 0;
    for (uint32_t seed = 0; seed < 40; seed++) {
        const ossicle_sampler_config sampler = {.struct_size = sizeof sampler, .seed = seed};
        ossicle_turn_config config = turn_config();
        config.max_tokens = seed < 30 ? 200 : 24;
        config.sampler = &sampler;
        config.reasoning_tokens = 8;
        config.recipients = &look;
        config.recipient_count = seed % 2;
        config.constraints = constraints;
        config.constraint_count = 2;
        told told = {.size = 0};
        CHECK(ossicle_generation_replace(engine.generation, &question, 1, &error) == OSSICLE_OK);
        CHECK(ossicle_turn_run(turn_of(&engine, &config), NULL, &told, listen, &error) == OSSICLE_OK);
        if (told.reason == OSSICLE_STOP_FINISHED) {
            CHECK(told.message == OSSICLE_MESSAGE_ANSWER && is_one_of(told.text, answer_list));
            finished++;
        } else if (told.reason == OSSICLE_STOP_TOOL_CALL) {
            CHECK(told.message == OSSICLE_MESSAGE_TOOL_CALL && is_one_of(told.text, argument_list));
            called++;
        } else {
            CHECK(told.reason == OSSICLE_STOP_MAX_TOKENS);
            cut++;
        }
        reasoned += told.reasoning > 0;
    }
    CHECK(finished > 0 && called > 0 && cut > 0 && reasoned > 0);
    for (int each = 0; each < 3; each++)
        free(regions[each]);
    engine_end(&engine);
}

/* A mask of the program's: three digits, and an end. */
typedef struct digits {
    const ossicle_tokenizer *tokenizer;
    ossicle_turn *turn;
    uint32_t vocabulary, written[8];
    int begun, asked, count, fail_at;
} digits;

static void begin_digits(void *data) {
    digits *digits = data;
    digits->begun++;
    digits->count = 0;
}

static int is_digit(const digits *digits, uint32_t token) {
    ossicle_bytes bytes = {0};
    CHECK(ossicle_tokenizer_token(digits->tokenizer, token, &bytes) == OSSICLE_OK);
    const char *text = bytes.start;
    return bytes.size == 1 && *text >= '0' && *text <= '9';
}

static int32_t allow_digits(void *data, uint32_t *allowed, size_t words, uint32_t *may_end) {
    digits *digits = data;
    CHECK(words == (digits->vocabulary + 31) / 32 && *may_end == 0 && allowed[0] == UINT32_MAX);
    CHECK(ossicle_turn_cancel(digits->turn) == OSSICLE_ERROR_BUSY);
    if (++digits->asked == digits->fail_at)
        return -1;
    for (uint32_t token = 0; token < digits->vocabulary; token++)
        if (digits->count == 3 || !is_digit(digits, token))
            allowed[token / 32] &= ~(1u << token % 32);
    *may_end = digits->count == 3;
    return 0;
}

static void accept_digits(void *data, uint32_t token) {
    digits *digits = data;
    CHECK(digits->count < 3 && is_digit(digits, token));
    digits->written[digits->count++] = token;
}

/* A turn that begins with its answer. */
static ossicle_turn_config answer_config(const ossicle_constraint *constraint) {
    ossicle_turn_config config = turn_config();
    config.reasoning = OSSICLE_REASONING_NONE;
    config.constraints = constraint;
    config.constraint_count = 1;
    return config;
}

static void masks(ossicle_bytes file) {
    engine engine = engine_with_generation(file);
    const ossicle_message question = {.struct_size = sizeof question, .text = text_of("What is an ossicle?")};
    char first[8] = "";
    for (int fail_at = 0; fail_at <= 4; fail_at++) {
        digits digits = {.tokenizer = engine.tokenizer, .fail_at = fail_at};
        CHECK(ossicle_tokenizer_vocabulary(engine.tokenizer, &digits.vocabulary) == OSSICLE_OK);
        const ossicle_token_mask mask = {.struct_size = sizeof mask,
                                         .data = &digits,
                                         .begin = begin_digits,
                                         .allowed = allow_digits,
                                         .accept = accept_digits};
        const ossicle_constraint constraint = {.struct_size = sizeof constraint, .mask = &mask};
        ossicle_turn_config config = answer_config(&constraint);
        told told = {.size = 0};
        CHECK(ossicle_generation_replace(engine.generation, &question, 1, &error) == OSSICLE_OK);
        digits.turn = turn_of(&engine, &config);
        if (fail_at > 0) {
            CHECK(ossicle_turn_run(digits.turn, NULL, &told, listen, &error) == OSSICLE_ERROR_CALLBACK);
            CHECK(error.status == OSSICLE_ERROR_CALLBACK && digits.asked == fail_at && digits.count == fail_at - 1);
        }
        /* It goes on where it failed. */
        CHECK(ossicle_turn_run(digits.turn, NULL, &told, listen, &error) == OSSICLE_OK);
        CHECK(told.reason == OSSICLE_STOP_FINISHED && told.message == OSSICLE_MESSAGE_ANSWER && told.size == 3);
        CHECK(digits.begun == 1 && digits.count == 3 && digits.asked == (fail_at > 0 ? 5 : 4));
        CHECK(fail_at == 0 || strcmp(first, told.text) == 0);
        strcpy(first, told.text);
    }
    engine_end(&engine);
}

/* A mask that leaves nothing. */
static int32_t allow_nothing(void *data, uint32_t *allowed, size_t words, uint32_t *may_end) {
    (void)data, (void)may_end;
    memset(allowed, 0, words * sizeof *allowed);
    return 0;
}

/* Steps a turn until an answer begins; further steps fail with `expected`, and it can be cancelled. */
static void fails_in_answer(ossicle_turn *turn, int32_t expected) {
    int32_t status;
    while ((status = ossicle_turn_step(turn, NULL, 1, &error)) == OSSICLE_MORE) {
        const ossicle_event *event;
        while (ossicle_turn_event(turn, &event) == OSSICLE_MORE)
            ;
    }
    CHECK(status == expected);
    CHECK(ossicle_turn_step(turn, NULL, 1, &error) == expected);
    CHECK(ossicle_turn_cancel(turn) == OSSICLE_OK);
    CHECK(ossicle_turn_step(turn, NULL, 1, &error) == OSSICLE_OK);
}

static int32_t new_turn(engine *engine, const ossicle_turn_config *config) {
    ossicle_turn *turn = NULL;
    ossicle_layout layout = {.size = 1 << 17, .align = 64};
    void *region = region_of(layout);
    int32_t status = ossicle_turn_new(engine->generation, region, layout.size, config, &turn, &error);
    CHECK(status < 0 && turn == NULL);
    free(region);
    return status;
}

static int begins_answer(const ossicle_event *event) {
    return event->kind == OSSICLE_EVENT_MESSAGE_BEGIN && event->message == OSSICLE_MESSAGE_ANSWER;
}

static void wrong_order(ossicle_bytes file, ossicle_bytes other_file) {
    engine engine = engine_with_generation(file), other = engine_with_generation(other_file);
    void *regions[3];
    ossicle_token_index *index = index_of(engine.tokenizer, &regions[0]);
    ossicle_schema *schema = schema_of(index, ANSWER, &regions[1]);
    ossicle_layout layout;
    ossicle_constraint constraint = {.struct_size = sizeof constraint};
    ossicle_turn_config config = answer_config(NULL);
    CHECK(ossicle_turn_layout(&config, &layout, &error) == OSSICLE_ERROR_ARGUMENT);
    config.constraints = &constraint;
    CHECK(ossicle_turn_layout(&config, &layout, &error) == OSSICLE_ERROR_ARGUMENT);
    ossicle_token_mask mask = {.struct_size = sizeof mask};
    constraint.mask = &mask;
    CHECK(ossicle_turn_layout(&config, &layout, &error) == OSSICLE_ERROR_ARGUMENT);
    mask.allowed = allow_nothing;
    CHECK(ossicle_turn_layout(&config, &layout, &error) == OSSICLE_OK);
    constraint.schema = schema;
    CHECK(new_turn(&engine, &config) == OSSICLE_ERROR_ARGUMENT);
    mask.struct_size = 0;
    constraint.schema = NULL;
    CHECK(new_turn(&engine, &config) == OSSICLE_ERROR_STRUCT_SIZE);
    mask.struct_size = sizeof mask;

    /* An index is no schema, nor is a schema an index. */
    constraint = (ossicle_constraint){.struct_size = sizeof constraint, .schema = (ossicle_schema *)(void *)index};
    CHECK(new_turn(&engine, &config) == OSSICLE_ERROR_OBJECT);
    ossicle_schema_config text = {.struct_size = sizeof text, .text = text_of(ANSWER)};
    CHECK(ossicle_schema_layout((ossicle_token_index *)(void *)schema, &text, &layout, &error) == OSSICLE_ERROR_OBJECT);

    /* Free headers could go around it; another vocabulary has other tokens. */
    constraint.schema = schema;
    constraint.tool = text_of("\xff");
    CHECK(new_turn(&engine, &config) == OSSICLE_ERROR_ARGUMENT);
    constraint.tool = text_of("");
    CHECK(new_turn(&engine, &config) == OSSICLE_ERROR_ARGUMENT);
    constraint.tool = (ossicle_text){NULL, 0};
    config.free_headers = 1;
    const uint32_t *tokens = NULL;
    size_t before = 0, after = 0;
    CHECK(ossicle_generation_tokens(engine.generation, &tokens, &before) == OSSICLE_OK);
    CHECK(new_turn(&engine, &config) == OSSICLE_ERROR_SETTING);
    CHECK(ossicle_generation_tokens(engine.generation, &tokens, &after) == OSSICLE_OK && after == before);
    config.free_headers = 0;
    CHECK(new_turn(&other, &config) == OSSICLE_ERROR_ARGUMENT);

    /* Nothing is allowed. */
    constraint = (ossicle_constraint){.struct_size = sizeof constraint, .mask = &mask};
    fails_in_answer(turn_of(&engine, &config), OSSICLE_ERROR_STATE);

    /* A turn in the midst of an answer, whose schema another turn takes. */
    struct engine second = engine_with_generation(file);
    constraint = (ossicle_constraint){.struct_size = sizeof constraint, .schema = schema};
    ossicle_turn *turn = turn_of(&engine, &config);
    const ossicle_event *event = NULL;
    while (ossicle_turn_next(turn, NULL, &event, &error) == OSSICLE_MORE && !begins_answer(event))
        ;
    CHECK(begins_answer(event));
    told told = {.size = 0};
    CHECK(ossicle_turn_run(turn_of(&second, &config), NULL, &told, listen, &error) == OSSICLE_OK);
    CHECK(told.reason == OSSICLE_STOP_FINISHED);
    fails_in_answer(turn, OSSICLE_ERROR_STATE);

    /* A schema whose memory is used for another, or for something else. */
    const ossicle_message question = {.struct_size = sizeof question, .text = text_of("And?")};
    CHECK(ossicle_generation_replace(engine.generation, &question, 1, &error) == OSSICLE_OK);
    turn = turn_of(&engine, &config);
    CHECK(ossicle_turn_step(turn, NULL, 1, &error) == OSSICLE_MORE);
    memset(regions[1], 0, 64);
    fails_in_answer(turn, OSSICLE_ERROR_STATE);
    CHECK(new_turn(&engine, &config) == OSSICLE_ERROR_OBJECT);

    /* What went wrong leaves no trace in the next turn. */
    constraint.schema = schema_of(index, ANSWER, &regions[2]);
    CHECK(ossicle_generation_replace(engine.generation, &question, 1, &error) == OSSICLE_OK);
    CHECK(ossicle_turn_run(turn_of(&engine, &config), NULL, &told, listen, &error) == OSSICLE_OK);
    CHECK(told.reason == OSSICLE_STOP_FINISHED && told.text[0] == '{');
    for (int each = 0; each < 3; each++)
        free(regions[each]);
    engine_end(&second);
    engine_end(&other);
    engine_end(&engine);
}

/* Measures a turn over and over. */
typedef struct measuring {
    const ossicle_turn_config *config;
    volatile int is_over;
    int count;
} measuring;

static void *measure(void *data) {
    measuring *measuring = data;
    ossicle_layout layout;
    for (; !measuring->is_over || measuring->count == 0; measuring->count++)
        CHECK(ossicle_turn_layout(measuring->config, &layout, NULL) == OSSICLE_OK);
    return NULL;
}

/* A turn goes on while others measure one with the same schema. */
static void measured_meanwhile(ossicle_bytes file) {
    engine engine = engine_with_generation(file);
    void *regions[2];
    const ossicle_token_index *index = index_of(engine.tokenizer, &regions[0]);
    ossicle_schema *schema = schema_of(index, ANSWER, &regions[1]);
    const ossicle_constraint constraint = {.struct_size = sizeof constraint, .schema = schema};
    const ossicle_turn_config config = answer_config(&constraint);
    ossicle_turn *turn = turn_of(&engine, &config);
    measuring measuring = {.config = &config};
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, measure, &measuring) == 0);
    told told = {.size = 0};
    CHECK(ossicle_turn_run(turn, NULL, &told, listen, &error) == OSSICLE_OK && told.reason == OSSICLE_STOP_FINISHED);
    measuring.is_over = 1;
    CHECK(pthread_join(thread, NULL) == 0);
    free(regions[0]);
    free(regions[1]);
    engine_end(&engine);
}

int main(int argc, char **argv) {
    CHECK(argc == 3);
    ossicle_bytes file = file_at(argv[1]), other = file_at(argv[2]);
    engine engine = engine_on(file);
    void *region;
    refusals(index_of(engine.tokenizer, &region));
    free(region);
    engine_end(&engine);
    schemas_of_a_turn(file);
    masks(file);
    wrong_order(file, other);
    measured_meanwhile(file);
    free((void *)(uintptr_t)file.start);
    free((void *)(uintptr_t)other.start);
    return 0;
}
