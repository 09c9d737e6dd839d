/* Whatever a program does wrong is refused, and the objects stay as they were: misuse MODEL. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

static void versions(void) {
    CHECK(ossicle_version_number() == OSSICLE_VERSION_NUMBER);
    CHECK(OSSICLE_VERSION_NUMBER
          == OSSICLE_VERSION_MAJOR * 1000000 + OSSICLE_VERSION_MINOR * 1000 + OSSICLE_VERSION_PATCH);
    char text[32];
    sprintf(text, "%d.%d.%d", OSSICLE_VERSION_MAJOR, OSSICLE_VERSION_MINOR, OSSICLE_VERSION_PATCH);
    CHECK(strcmp(text, OSSICLE_VERSION_STRING) == 0 && strcmp(text, ossicle_version_string()) == 0);
    for (int32_t status = -30; status < 5; status++)
        CHECK(strlen(ossicle_status_text(status)) > 3);
    CHECK(strlen(ossicle_problem_text(0)) > 3 && strlen(ossicle_problem_text(19)) > 3);
}

static void models(engine *good) {
    ossicle_bytes file = good->file;
    ossicle_model_config config = {.struct_size = sizeof config, .file_count = 1, .files = &file};
    ossicle_layout layout;
    ossicle_model *model = NULL;
    CHECK(ossicle_model_layout(&config, NULL, &error) == OSSICLE_ERROR_ARGUMENT);
    CHECK(ossicle_model_layout(NULL, &layout, &error) == OSSICLE_ERROR_ARGUMENT);
    config.struct_size = 0;
    CHECK(ossicle_model_layout(&config, &layout, &error) == OSSICLE_ERROR_STRUCT_SIZE);
    struct {
        ossicle_model_config known;
        uint64_t unknown;
    } later = {{.struct_size = sizeof later, .file_count = 1, .files = &file}, 0};
    CHECK(ossicle_model_layout(&later.known, &layout, &error) == OSSICLE_OK);
    later.unknown = 1;
    CHECK(ossicle_model_layout(&later.known, &layout, &error) == OSSICLE_ERROR_STRUCT_SIZE);
    config.struct_size = offsetof(ossicle_model_config, config_json);
    CHECK(ossicle_model_layout(&config, &layout, &error) == OSSICLE_OK);

    char *region = region_of(layout);
    CHECK(ossicle_model_new(NULL, layout.size, &config, &model, &error) == OSSICLE_ERROR_ARGUMENT);
    CHECK(ossicle_model_new(region + 8, layout.size - 8, &config, &model, &error) == OSSICLE_ERROR_REGION_ALIGN);
    CHECK(ossicle_model_new(region, 10, &config, &model, &error) == OSSICLE_ERROR_REGION_SIZE);
    CHECK(ossicle_model_new(region, layout.size - 1, &config, &model, &error) == OSSICLE_ERROR_REGION_SIZE);
    CHECK(ossicle_model_new(region, layout.size, &config, NULL, &error) == OSSICLE_ERROR_ARGUMENT);
    CHECK(model == NULL);
    CHECK(ossicle_model_new(region, layout.size, &config, &model, NULL) == OSSICLE_OK);
    CHECK((void *)model == (void *)region);

    file.size = 100;
    CHECK(ossicle_model_layout(&config, &layout, &error) == OSSICLE_ERROR_FILE);
    CHECK(error.status == OSSICLE_ERROR_FILE && error.file == 0 && error.text_size == strlen(error.text));
    ossicle_error old = {.struct_size = offsetof(ossicle_error, text) + 12};
    CHECK(ossicle_model_layout(&config, &layout, &old) == OSSICLE_ERROR_FILE);
    CHECK(old.text_size == 11 && old.text[11] == 0 && memcmp(old.text, error.text, 11) == 0);
    CHECK(ossicle_model_new(region, layout.size, &config, &model, &error) == OSSICLE_ERROR_FILE);
    /* What was in the region before is no object any more. */
    const ossicle_model_numbers *numbers = NULL;
    CHECK(ossicle_model_numbers_of(model, &numbers) == OSSICLE_ERROR_OBJECT);
    CHECK(ossicle_model_numbers_of(good->model, &numbers) == OSSICLE_OK);
    CHECK(numbers->layers > 0 && numbers->vocabulary > 100 && numbers->tensors > numbers->layers);
    CHECK(ossicle_model_check_values(good->model, &error) == OSSICLE_OK);
    ossicle_text name;
    uint32_t kernels = 0;
    while (ossicle_kernels_name(kernels, &name) == OSSICLE_OK && name.start != NULL)
        kernels++;
    CHECK(kernels >= 1);
    free(region);
}

static void wrong_objects(engine *good) {
    uint32_t position = 77;
    /* A model is no session, nor is a copy of a session. */
    CHECK(ossicle_session_position((ossicle_session *)(void *)good->model, &position) == OSSICLE_ERROR_OBJECT);
    CHECK(ossicle_session_position(NULL, &position) == OSSICLE_ERROR_ARGUMENT);
    CHECK(ossicle_session_position((ossicle_session *)(void *)((char *)(void *)good->session + 4), &position)
          == OSSICLE_ERROR_ARGUMENT);
    char *moved = region_of((ossicle_layout){.size = 4096, .align = 64});
    memcpy(moved, good->session, 256);
    CHECK(ossicle_session_position((ossicle_session *)(void *)moved, &position) == OSSICLE_ERROR_OBJECT);
    memset(moved, 0, 4096);
    CHECK(ossicle_session_position((ossicle_session *)(void *)moved, &position) == OSSICLE_ERROR_OBJECT);
    CHECK(position == 77);
    CHECK(ossicle_session_position(good->session, &position) == OSSICLE_OK && position == 0);
    free(moved);
}

static void tokenizers(engine *good) {
    uint32_t tokens[64];
    size_t count = 0, size = 0;
    char text[64];
    const char *given = "Hello <|start|> \xc3\xa9";
    CHECK(ossicle_tokenizer_encode(good->tokenizer, text_of(given), OSSICLE_SPECIALS_NONE, tokens, 2, &count)
          == OSSICLE_ERROR_BUFFER);
    CHECK(count > 2);
    CHECK(ossicle_tokenizer_encode(good->tokenizer, text_of(given), OSSICLE_SPECIALS_NONE, tokens, 64, &count)
          == OSSICLE_OK);
    CHECK(ossicle_tokenizer_decode(good->tokenizer, tokens, count, text, 3, &size) == OSSICLE_ERROR_BUFFER);
    CHECK(ossicle_tokenizer_decode(good->tokenizer, tokens, count, text, sizeof text, &size) == OSSICLE_OK);
    CHECK(size == strlen(given) && memcmp(text, given, size) == 0);
    size_t plain = count;
    CHECK(ossicle_tokenizer_encode(good->tokenizer, text_of(given), OSSICLE_SPECIALS_ALL, tokens, 64, &count)
          == OSSICLE_OK);
    CHECK(count < plain);
    CHECK(ossicle_tokenizer_encode(good->tokenizer, text_of(given), 2, tokens, 64, &count) == OSSICLE_ERROR_ARGUMENT);
    CHECK(ossicle_tokenizer_encode(good->tokenizer, text_of("\xff"), 0, tokens, 64, &count) == OSSICLE_ERROR_ARGUMENT);
    CHECK(ossicle_tokenizer_encode(good->tokenizer, (ossicle_text){NULL, 5}, 0, tokens, 64, &count)
          == OSSICLE_ERROR_ARGUMENT);
    uint32_t start = 0, vocabulary = 0;
    CHECK(ossicle_tokenizer_special(good->tokenizer, text_of("<|start|>"), &start) == OSSICLE_OK);
    CHECK(ossicle_tokenizer_special(good->tokenizer, text_of("<|nothing|>"), &start) == OSSICLE_ERROR_ARGUMENT);
    CHECK(ossicle_tokenizer_vocabulary(good->tokenizer, &vocabulary) == OSSICLE_OK && start < vocabulary);
    ossicle_bytes bytes;
    CHECK(ossicle_tokenizer_token(good->tokenizer, start, &bytes) == OSSICLE_OK && bytes.size == 9);
    CHECK(ossicle_tokenizer_token(good->tokenizer, vocabulary, &bytes) == OSSICLE_OK && bytes.start == NULL);

    CHECK(ossicle_tokenizer_save(good->tokenizer, NULL, 0, &size) == OSSICLE_ERROR_BUFFER);
    ossicle_layout layout = {.size = (size + 63) / 64 * 64, .align = 64};
    char *index = region_of(layout);
    CHECK(ossicle_tokenizer_save(good->tokenizer, index, layout.size, &size) == OSSICLE_OK);
    ossicle_tokenizer_config config = {.struct_size = sizeof config, .index = {index, size}};
    CHECK(ossicle_tokenizer_layout(&config, &layout, &error) == OSSICLE_OK && layout.size < 1024);
    void *region = region_of(layout);
    ossicle_tokenizer *again = NULL;
    CHECK(ossicle_tokenizer_new(region, layout.size, &config, &again, &error) == OSSICLE_OK);
    CHECK(ossicle_tokenizer_encode(again, text_of(given), OSSICLE_SPECIALS_NONE, tokens, 64, &count) == OSSICLE_OK);
    CHECK(count == plain);
    config.model = good->model;
    CHECK(ossicle_tokenizer_layout(&config, &layout, &error) == OSSICLE_ERROR_ARGUMENT);
    free(region);
    free(index);
}

static void sessions(engine *good) {
    uint32_t tokens[3] = {1, 2, 3}, position = 0, token = 0;
    const float *logits = NULL;
    size_t count = 1;
    ossicle_session_config config = {.struct_size = sizeof config, .precision = 9};
    ossicle_layout layout;
    CHECK(ossicle_session_layout(good->model, &config, &layout, &error) == OSSICLE_ERROR_ARGUMENT);
    config = (ossicle_session_config){.struct_size = sizeof config, .kernels = text_of("none such")};
    CHECK(ossicle_session_layout(good->model, &config, &layout, &error) == OSSICLE_ERROR_SETTING);
    config = (ossicle_session_config){.struct_size = sizeof config, .cache_format = OSSICLE_CACHE_INT8 + 1};
    CHECK(ossicle_session_layout(good->model, &config, &layout, &error) == OSSICLE_ERROR_ARGUMENT);
    size_t sizes[OSSICLE_CACHE_INT8 + 1];
    for (uint32_t format = OSSICLE_CACHE_DEFAULT; format <= OSSICLE_CACHE_INT8; format++) {
        config = (ossicle_session_config){.struct_size = sizeof config, .cache_format = format};
        CHECK(ossicle_session_layout(good->model, &config, &layout, &error) == OSSICLE_OK);
        sizes[format] = layout.size;
    }
    CHECK(sizes[OSSICLE_CACHE_INT8] < sizes[OSSICLE_CACHE_F16] && sizes[OSSICLE_CACHE_F16] < sizes[OSSICLE_CACHE_F32]);
    CHECK(sizes[OSSICLE_CACHE_BF16] == sizes[OSSICLE_CACHE_F16] && sizes[OSSICLE_CACHE_DEFAULT] == sizes[OSSICLE_CACHE_F16]);
    config = (ossicle_session_config){.struct_size = sizeof config, .cpu = UINT64_MAX};
    CHECK(ossicle_session_layout(good->model, &config, &layout, &error) == OSSICLE_ERROR_ARGUMENT);
    config = (ossicle_session_config){.struct_size = sizeof config, .context_tokens = UINT32_MAX};
    CHECK(ossicle_session_layout(good->model, &config, &layout, &error) == OSSICLE_ERROR_SETTING);

    CHECK(ossicle_session_step(good->session, NULL, 1, &error) == OSSICLE_OK);
    CHECK(ossicle_session_start(good->session, NULL, 3, OSSICLE_LOGITS_LAST, &error) == OSSICLE_ERROR_ARGUMENT);
    CHECK(ossicle_session_start(good->session, tokens, 3, 9, &error) == OSSICLE_ERROR_ARGUMENT);
    const uint32_t many[25] = {0};
    CHECK(ossicle_session_start(good->session, many, 25, OSSICLE_LOGITS_ALL, &error) == OSSICLE_ERROR_CAPACITY);
    tokens[1] = UINT32_MAX;
    CHECK(ossicle_session_start(good->session, tokens, 3, OSSICLE_LOGITS_LAST, &error) == OSSICLE_ERROR_TOKEN);
    tokens[1] = 2;
    CHECK(ossicle_session_start(good->session, tokens, 3, OSSICLE_LOGITS_LAST, &error) == OSSICLE_OK);
    CHECK(ossicle_session_start(good->session, tokens, 3, OSSICLE_LOGITS_LAST, &error) == OSSICLE_ERROR_STATE);
    CHECK(ossicle_session_rewind(good->session, 0, &error) == OSSICLE_ERROR_STATE);
    CHECK(ossicle_session_step(good->session, NULL, 1, &error) == OSSICLE_MORE);
    CHECK(ossicle_session_logits(good->session, &logits, &count) == OSSICLE_OK && count == 0);
    CHECK(ossicle_session_cancel(good->session) == OSSICLE_OK);
    CHECK(ossicle_session_position(good->session, &position) == OSSICLE_OK && position == 0);
    CHECK(ossicle_session_start(good->session, tokens, 3, OSSICLE_LOGITS_LAST, &error) == OSSICLE_OK);
    CHECK(ossicle_session_step(good->session, NULL, UINT64_MAX, &error) == OSSICLE_OK);
    CHECK(ossicle_session_position(good->session, &position) == OSSICLE_OK && position == 3);
    CHECK(ossicle_session_logits(good->session, &logits, &count) == OSSICLE_OK);

    ossicle_logit_bias biases[2] = {{5, 1.0f}, {5, 2.0f}};
    ossicle_sampler_config drawing = {
        .struct_size = sizeof drawing, .greedy = 1, .logit_bias = biases, .logit_bias_count = 2};
    CHECK(ossicle_sampler_layout(&drawing, &layout, &error) == OSSICLE_OK);
    void *region = region_of(layout);
    ossicle_sampler *sampler = NULL;
    CHECK(ossicle_sampler_new(region, layout.size, &drawing, &sampler, &error) == OSSICLE_ERROR_SETTING);
    biases[1].token = 7;
    CHECK(ossicle_sampler_new(region, layout.size, &drawing, &sampler, &error) == OSSICLE_OK);
    CHECK(ossicle_sampler_sample(sampler, logits, count, NULL, 0, &token, &error) == OSSICLE_OK && token < count);
    uint32_t allowed[1] = {1u << 9};
    CHECK(ossicle_sampler_sample(sampler, logits, count, allowed, 1, &token, &error) == OSSICLE_OK && token == 9);
    allowed[0] = 0;
    CHECK(ossicle_sampler_sample(sampler, logits, count, allowed, 1, &token, &error) == OSSICLE_ERROR_STATE);
    CHECK(token == 9);
    ossicle_log_probability top[65];
    size_t found = 0;
    CHECK(ossicle_log_probabilities(logits, count, top, 3, &found) == OSSICLE_OK && found == 3);
    CHECK(top[0].value >= top[1].value && top[0].value <= 0.0f);
    CHECK(ossicle_log_probabilities(logits, count, top, 65, &found) == OSSICLE_ERROR_ARGUMENT);
    free(region);

    CHECK(ossicle_session_rewind(good->session, 4, &error) == OSSICLE_ERROR_STATE);
    CHECK(ossicle_session_rewind(good->session, 0, &error) == OSSICLE_OK);
}

static int calls_back(void *data, const ossicle_event *event) {
    ossicle_turn *turn = data;
    const ossicle_event *other = NULL;
    (void)event;
    CHECK(ossicle_turn_event(turn, &other) == OSSICLE_ERROR_BUSY);
    CHECK(ossicle_turn_step(turn, NULL, 1, &error) == OSSICLE_ERROR_BUSY);
    return 1;
}

static void turns(ossicle_bytes file) {
    engine engine = engine_with_generation(file);
    uint32_t position = 0;
    const uint32_t *tokens = NULL;
    size_t count = 0, after = 0;
    CHECK(ossicle_session_position(engine.session, &position) == OSSICLE_ERROR_STATE);
    CHECK(ossicle_generation_tokens(engine.generation, &tokens, &count) == OSSICLE_OK && count > 10);
    CHECK(ossicle_generation_position(engine.generation, &position) == OSSICLE_OK && position == 0);

    ossicle_message bad = {.struct_size = sizeof bad, .role = OSSICLE_ROLE_TOOL, .text = text_of("12")};
    CHECK(ossicle_generation_append(engine.generation, &bad, 1, &error) == OSSICLE_ERROR_RENDER);
    bad.role = 17;
    CHECK(ossicle_generation_append(engine.generation, &bad, 1, &error) == OSSICLE_ERROR_ARGUMENT);
    bad.role = OSSICLE_ROLE_USER;
    bad.text = text_of("\xc0");
    CHECK(ossicle_generation_append(engine.generation, &bad, 1, &error) == OSSICLE_ERROR_ARGUMENT);
    const uint32_t own = UINT32_MAX;
    bad = (ossicle_message){
        .struct_size = sizeof bad, .role = OSSICLE_ROLE_ASSISTANT, .own_tokens = &own, .own_token_count = 1};
    CHECK(ossicle_generation_append(engine.generation, &bad, 1, &error) == OSSICLE_ERROR_TOKEN);
    bad = (ossicle_message){.struct_size = sizeof bad, .role = OSSICLE_ROLE_USER};
    ossicle_message two[2] = {{.struct_size = sizeof bad}, {.struct_size = 8}};
    CHECK(ossicle_generation_append(engine.generation, two, 2, &error) == OSSICLE_ERROR_STRUCT_SIZE);
    CHECK(ossicle_generation_append(engine.generation, NULL, 2, &error) == OSSICLE_ERROR_ARGUMENT);
    char *long_text = malloc(200000);
    memset(long_text, 'x', 200000);
    bad.text = (ossicle_text){long_text, 200000};
    CHECK(ossicle_generation_append(engine.generation, &bad, 1, &error) == OSSICLE_ERROR_CAPACITY);
    CHECK(ossicle_generation_tokens(engine.generation, &tokens, &after) == OSSICLE_OK && after == count);
    free(long_text);

    ossicle_turn_config config = turn_config();
    ossicle_text stop = {"", 0};
    ossicle_layout layout;
    ossicle_turn *turn = NULL;
    config.stop = &stop;
    config.stop_count = 1;
    CHECK(ossicle_turn_layout(&config, &layout, &error) == OSSICLE_OK);
    void *region = region_of(layout);
    CHECK(ossicle_turn_new(engine.generation, region, layout.size, &config, &turn, &error) == OSSICLE_ERROR_SETTING);
    free(region);
    stop = text_of("never");
    const ossicle_event *event = NULL;
    turn = turn_of(&engine, &config);
    CHECK(ossicle_turn_step(turn, NULL, 0, &error) == OSSICLE_MORE);
    CHECK(ossicle_turn_run(turn, NULL, turn, NULL, &error) == OSSICLE_ERROR_ARGUMENT);
    CHECK(ossicle_turn_run(turn, NULL, turn, calls_back, &error) == OSSICLE_OK);
    CHECK(ossicle_turn_event(turn, &event) == OSSICLE_OK);

    /* A turn that others have followed. */
    turn = turn_of(&engine, &config);
    ossicle_message message = {.struct_size = sizeof message, .text = text_of("And?")};
    CHECK(ossicle_generation_append(engine.generation, &message, 1, &error) == OSSICLE_OK);
    CHECK(ossicle_turn_step(turn, NULL, 1, &error) == OSSICLE_ERROR_STATE);
    CHECK(ossicle_turn_cancel(turn) == OSSICLE_OK);
    CHECK(ossicle_turn_event(turn, &event) == OSSICLE_OK);
    CHECK(ossicle_turn_step(turn, NULL, 1, &error) == OSSICLE_OK);

    CHECK(ossicle_generation_replace(engine.generation, &message, 1, &error) == OSSICLE_OK);
    turn = turn_of(&engine, &config);
    CHECK(ossicle_turn_cancel(turn) == OSSICLE_OK);
    event = NULL;
    while (ossicle_turn_event(turn, &event) == OSSICLE_MORE)
        ;
    CHECK(event != NULL && event->kind == OSSICLE_EVENT_STOP && event->reason == OSSICLE_STOP_CANCELLED);
    engine_end(&engine);
}

static void harmony(engine *good) {
    ossicle_tool tool = {.struct_size = sizeof tool,
                         .name = text_of("add"),
                         .description = text_of("Adds."),
                         .parameters = text_of("{\"type\":\"object\",\"properties\":{\"a\":{\"type\":\"number\"}}}")};
    ossicle_response_format format = {
        .struct_size = sizeof format, .name = text_of("f"), .schema = text_of("{\"type\":\"string\"}")};
    ossicle_developer developer = {.struct_size = sizeof developer,
                                   .instructions = text_of("Be brief."),
                                   .tools = &tool,
                                   .tool_count = 1,
                                   .response_formats = &format,
                                   .response_format_count = 1};
    ossicle_system system = {
        .struct_size = sizeof system, .effort = OSSICLE_EFFORT_LOW, .tools = OSSICLE_TOOL_BROWSER | OSSICLE_TOOL_PYTHON};
    ossicle_message messages[3] = {
        {.struct_size = sizeof *messages, .role = OSSICLE_ROLE_SYSTEM, .system = &system},
        {.struct_size = sizeof *messages, .role = OSSICLE_ROLE_DEVELOPER, .developer = &developer},
        {.struct_size = sizeof *messages, .text = text_of("1 + 2?")},
    };
    static uint32_t tokens[8192];
    size_t count = 0, again = 0, taken = 0;
    ossicle_layout layout = {.size = 32768, .align = 64};
    void *scratch = region_of(layout);
    CHECK(ossicle_harmony_render(good->tokenizer, messages, 3, NULL, scratch, 64, tokens, 8192, &count, &error)
          == OSSICLE_ERROR_BUFFER);
    CHECK(ossicle_harmony_render(good->tokenizer, messages, 3, NULL, scratch, 32768, tokens, 10, &count, &error)
          == OSSICLE_ERROR_BUFFER);
    CHECK(count > 10);
    ossicle_render_config config = {.struct_size = sizeof config, .ending = OSSICLE_ENDING_NOTHING};
    CHECK(ossicle_harmony_render(good->tokenizer, messages, 3, &config, scratch, 32768, tokens, 8192, &again, &error)
          == OSSICLE_OK);
    CHECK(again > 100 && again < count);

    CHECK(ossicle_parser_layout(&layout) == OSSICLE_OK);
    void *region = region_of(layout);
    ossicle_parser *parser = NULL;
    CHECK(ossicle_parser_new(good->tokenizer, region, layout.size, 9, &parser, &error) == OSSICLE_ERROR_ARGUMENT);
    CHECK(ossicle_parser_new(good->tokenizer, region, layout.size, OSSICLE_PARSER_NO_ROLE, &parser, &error)
          == OSSICLE_OK);
    const ossicle_event *event = NULL;
    size_t done = 0, begun = 0, ended = 0;
    int32_t status;
    do {
        status = ossicle_parser_push(parser, tokens + done, again - done, &taken);
        CHECK(status >= 0);
        done += taken;
        while (ossicle_parser_event(parser, &event) == OSSICLE_MORE) {
            begun += event->kind == OSSICLE_EVENT_MESSAGE_BEGIN;
            ended += event->kind == OSSICLE_EVENT_MESSAGE_END && event->end == OSSICLE_END_END;
        }
    } while (status == OSSICLE_MORE);
    CHECK(done == again && begun == 3 && ended == 3);
    CHECK(ossicle_parser_finish(parser) == OSSICLE_OK && ossicle_parser_finish(parser) == OSSICLE_OK);
    CHECK(ossicle_parser_push(parser, tokens, 1, &taken) == OSSICLE_ERROR_STATE);
    free(region);
    free(scratch);
}

/* Whatever tokens come, a parser takes them all and no event finds no room. */
static void flood(engine *good) {
    static const char *const words[] = {"<|start|>", "<|channel|>", "<|constrain|>", "<|message|>", "<|end|>",
                                        "<|call|>",  " to=",        " assistant",    " analysis",   " json x",
                                        "\n",        " functions.f"};
    uint32_t tokens[64], vocabulary = 0;
    uint64_t random = 88172645463325252u;
    size_t count = 0, taken = 0;
    ossicle_layout layout;
    ossicle_parser *parser = NULL;
    const ossicle_event *event = NULL;
    CHECK(ossicle_tokenizer_vocabulary(good->tokenizer, &vocabulary) == OSSICLE_OK);
    CHECK(ossicle_parser_layout(&layout) == OSSICLE_OK);
    void *region = region_of(layout);
    CHECK(ossicle_parser_new(good->tokenizer, region, layout.size, OSSICLE_ROLE_ASSISTANT, &parser, &error)
          == OSSICLE_OK);
    for (int round = 0; round < 50000; round++) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        /* Long stretches of header, so that it overflows. */
        const size_t kinds = round / 500 % 2 ? 3 : sizeof words / sizeof *words;
        const size_t first = round / 1000 % 2 ? 0 : round / 500 % 2 ? 1 : 0;
        const char *word = words[first + (random >> 20) % (kinds - first)];
        CHECK(ossicle_tokenizer_encode(good->tokenizer, text_of(word), OSSICLE_SPECIALS_ALL, tokens, 63, &count)
              == OSSICLE_OK);
        if (random % 16 == 0)
            tokens[count++] = (uint32_t)(random >> 40) % (vocabulary + 5);
        for (size_t done = 0; done < count; done += taken) {
            CHECK(ossicle_parser_push(parser, tokens + done, count - done, &taken) >= 0);
            /* Left until there is no room. */
            while (taken == 0 && ossicle_parser_event(parser, &event) == OSSICLE_MORE)
                CHECK(event->kind >= OSSICLE_EVENT_MESSAGE_BEGIN && event->kind <= OSSICLE_EVENT_DIAGNOSTIC);
        }
    }
    while (ossicle_parser_finish(parser) == OSSICLE_MORE)
        while (ossicle_parser_event(parser, &event) == OSSICLE_MORE)
            ;
    free(region);
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    ossicle_bytes file = file_at(argv[1]);
    engine engine = engine_with_session(file);
    versions();
    models(&engine);
    wrong_objects(&engine);
    tokenizers(&engine);
    sessions(&engine);
    harmony(&engine);
    flood(&engine);
    turns(file);
    engine_end(&engine);
    free((void *)(uintptr_t)file.start);
    return 0;
}
