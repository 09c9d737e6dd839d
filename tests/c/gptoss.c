/* A program written for OpenAI's C API: gptoss MODEL. Every function of gptoss_compat.h is called. */
#include <gptoss_compat.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                       \
    do {                                                                       \
        if (!(condition)) {                                                    \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);    \
            exit(1);                                                           \
        }                                                                      \
    } while (0)
#define SUCCEED(call) CHECK((call) == gptoss_status_success)

int main(int argc, char **argv) {
    gptoss_model_t model = NULL;
    gptoss_tokenizer_t tokenizer = NULL;
    gptoss_context_t context = NULL;
    CHECK(argc == 2);
    CHECK(gptoss_model_create_from_file("/none/such.gguf", &model) == gptoss_status_io_error && model == NULL);
    SUCCEED(gptoss_model_create_from_file(argv[1], &model));
    SUCCEED(gptoss_model_get_tokenizer(model, &tokenizer));
    SUCCEED(gptoss_model_retain(model));
    SUCCEED(gptoss_model_release(model));
    size_t most = 0, count = 0, appended = 0, drawn = 0;
    SUCCEED(gptoss_model_get_max_context_length(model, &most));
    CHECK(most > 100);

    uint32_t text = 0, special = 0, all = 0, start = 0;
    SUCCEED(gptoss_tokenizer_get_num_text_tokens(tokenizer, &text));
    SUCCEED(gptoss_tokenizer_get_num_special_tokens(tokenizer, &special));
    SUCCEED(gptoss_tokenizer_get_num_tokens(tokenizer, &all));
    CHECK(text + special == all && special > 5);
    SUCCEED(gptoss_tokenizer_get_special_token_id(tokenizer, gptoss_special_token_start, &start));
    CHECK(start >= text && start < all);
    CHECK(gptoss_tokenizer_get_special_token_id(tokenizer, gptoss_special_token_invalid, &start)
          == gptoss_status_invalid_argument);

    CHECK(gptoss_context_create(model, most + 1, 0, &context) == gptoss_status_invalid_argument && context == NULL);
    SUCCEED(gptoss_context_create(model, 100, 16, &context));
    SUCCEED(gptoss_context_get_max_tokens(context, &count));
    CHECK(count == 100);
    uint32_t tokens[100] = {0}, first[8], again[8];
    CHECK(gptoss_context_sample(context, 1.0f, 0, 8, first, &drawn) == gptoss_status_invalid_state);
    SUCCEED(gptoss_context_append_tokens(context, 1, &start));
    const char *question = "why did the chicken cross the road?";
    SUCCEED(gptoss_context_append_chars(context, question, strlen(question), &appended));
    SUCCEED(gptoss_context_get_num_tokens(context, &count));
    CHECK(count == appended + 1 && appended > 3);
    SUCCEED(gptoss_context_process(context));
    SUCCEED(gptoss_context_sample(context, 1.0f, 7, 8, first, &drawn));
    CHECK(drawn >= 1 && drawn <= 8);
    SUCCEED(gptoss_context_get_tokens(context, tokens, 100, &count));
    CHECK(count == appended + 1 + drawn && tokens[0] == start && tokens[appended + 1] == first[0]);
    const void *bytes = NULL;
    size_t size = 0, decoded = 0;
    for (size_t index = 1; index <= appended; index++) {
        SUCCEED(gptoss_tokenizer_decode(tokenizer, tokens[index], &bytes, &size));
        CHECK(memcmp(bytes, question + decoded, size) == 0);
        decoded += size;
    }
    CHECK(decoded == strlen(question));

    SUCCEED(gptoss_context_reset(context));
    SUCCEED(gptoss_context_append_tokens(context, appended + 1, tokens));
    size_t second = 0;
    SUCCEED(gptoss_context_sample(context, 1.0f, 7, 8, again, &second));
    CHECK(second == drawn && memcmp(first, again, drawn * sizeof *first) == 0);
    CHECK(gptoss_context_append_tokens(context, 100, tokens) == gptoss_status_context_overflow);

    SUCCEED(gptoss_context_retain(context));
    SUCCEED(gptoss_context_release(context));
    SUCCEED(gptoss_model_release(model));
    SUCCEED(gptoss_tokenizer_retain(tokenizer));
    SUCCEED(gptoss_tokenizer_release(tokenizer));
    SUCCEED(gptoss_tokenizer_release(tokenizer));
    SUCCEED(gptoss_context_release(context));
    return 0;
}
