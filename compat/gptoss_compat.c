#include "gptoss_compat.h"

#include <ossicle.h>
#include <stdlib.h>
#include <string.h>

/* The tokenizer is a part of the model, and counts as a reference to it. */
struct gptoss_model {
    size_t references;
    ossicle_checkpoint *checkpoint;
    ossicle_threads *threads;
    ossicle_host host;
    const ossicle_model *model;
    const ossicle_tokenizer *tokenizer;
    const ossicle_model_numbers *numbers;
};

struct gptoss_context {
    size_t references;
    gptoss_model_t model;
    ossicle_session_config config;
    ossicle_layout layout;
    void *region;
    ossicle_session *session;
    /* The session holds as many of these as its position says. */
    uint32_t *tokens;
    size_t count;
};

static enum gptoss_status status_of(int32_t status) {
    switch (status) {
    case OSSICLE_OK:
    case OSSICLE_MORE:
        return gptoss_status_success;
    case OSSICLE_ERROR_SYSTEM:
    case OSSICLE_ERROR_FILE:
    case OSSICLE_ERROR_TENSOR:
    case OSSICLE_ERROR_VOCABULARY:
        return gptoss_status_io_error;
    case OSSICLE_ERROR_MEMORY:
        return gptoss_status_insufficient_memory;
    case OSSICLE_ERROR_CAPACITY:
    case OSSICLE_ERROR_BUFFER:
        return gptoss_status_context_overflow;
    case OSSICLE_ERROR_STATE:
    case OSSICLE_ERROR_BUSY:
    case OSSICLE_ERROR_FAILED:
        return gptoss_status_invalid_state;
    default:
        return gptoss_status_invalid_argument;
    }
}

#define TRY(call)                         \
    do {                                  \
        int32_t tried = (call);           \
        if (tried < 0)                    \
            return status_of(tried);      \
    } while (0)

#define DEMAND(condition)                          \
    do {                                           \
        if (!(condition))                          \
            return gptoss_status_invalid_argument; \
    } while (0)

/* Models. */

static enum gptoss_status open_model(const char *path, gptoss_model_t model) {
    TRY(ossicle_checkpoint_open(path, &model->checkpoint, NULL));
    TRY(ossicle_checkpoint_model(model->checkpoint, &model->model));
    TRY(ossicle_checkpoint_tokenizer(model->checkpoint, &model->tokenizer));
    TRY(ossicle_model_numbers_of(model->model, &model->numbers));
    TRY(ossicle_threads_open(0, &model->threads));
    model->host.struct_size = sizeof model->host;
    TRY(ossicle_threads_lend(model->threads, &model->host));
    model->host.clock = NULL;
    return gptoss_status_success;
}

enum gptoss_status gptoss_model_create_from_file(const char *path, gptoss_model_t *model_out) {
    DEMAND(model_out != NULL);
    *model_out = NULL;
    gptoss_model_t model = calloc(1, sizeof *model);
    if (model == NULL)
        return gptoss_status_insufficient_memory;
    model->references = 1;
    enum gptoss_status status = open_model(path, model);
    if (status == gptoss_status_success)
        *model_out = model;
    else
        gptoss_model_release(model);
    return status;
}

enum gptoss_status gptoss_model_get_tokenizer(gptoss_model_t model, gptoss_tokenizer_t *tokenizer_out) {
    DEMAND(tokenizer_out != NULL);
    *tokenizer_out = NULL;
    DEMAND(model != NULL);
    *tokenizer_out = (gptoss_tokenizer_t)(void *)model;
    return gptoss_model_retain(model);
}

enum gptoss_status gptoss_model_get_max_context_length(gptoss_model_t model, size_t *max_context_length_out) {
    DEMAND(model != NULL && max_context_length_out != NULL);
    *max_context_length_out = model->numbers->context_tokens;
    return gptoss_status_success;
}

enum gptoss_status gptoss_model_retain(gptoss_model_t model) {
    DEMAND(model != NULL);
    model->references++;
    return gptoss_status_success;
}

enum gptoss_status gptoss_model_release(gptoss_model_t model) {
    if (model != NULL && --model->references == 0) {
        ossicle_threads_close(model->threads);
        ossicle_checkpoint_close(model->checkpoint);
        free(model);
    }
    return gptoss_status_success;
}

/* Tokenizers. */

static const ossicle_tokenizer *tokenizer_of(gptoss_tokenizer_t tokenizer) {
    return ((gptoss_model_t)(void *)tokenizer)->tokenizer;
}

static const char *const special_names[gptoss_special_token_max] = {
    NULL,           "<|return|>",  "<|start|>", "<|message|>",   "<|end|>",          "<|refusal|>",
    "<|constrain|>", "<|channel|>", "<|call|>",  "<|untrusted|>", "<|end_untrusted|>"};

enum gptoss_status gptoss_tokenizer_get_special_token_id(gptoss_tokenizer_t tokenizer,
                                                         enum gptoss_special_token token_type, uint32_t *token_id_out) {
    DEMAND(tokenizer != NULL && token_id_out != NULL);
    DEMAND((int)token_type > 0 && token_type < gptoss_special_token_max);
    const char *name = special_names[token_type];
    const ossicle_text text = {name, strlen(name)};
    return status_of(ossicle_tokenizer_special(tokenizer_of(tokenizer), text, token_id_out));
}

enum gptoss_status gptoss_tokenizer_get_num_tokens(gptoss_tokenizer_t tokenizer, uint32_t *num_tokens_out) {
    DEMAND(tokenizer != NULL && num_tokens_out != NULL);
    return status_of(ossicle_tokenizer_vocabulary(tokenizer_of(tokenizer), num_tokens_out));
}

/* `<|startoftext|>` comes first of the special tokens of o200k_harmony; others may lack it. */
enum gptoss_status gptoss_tokenizer_get_num_text_tokens(gptoss_tokenizer_t tokenizer, uint32_t *num_text_tokens_out) {
    static const char *const first[] = {"<|startoftext|>", "<|endoftext|>", "<|return|>",  "<|start|>",
                                        "<|message|>",     "<|end|>",       "<|channel|>", "<|call|>"};
    uint32_t least = UINT32_MAX, token = 0;
    DEMAND(tokenizer != NULL && num_text_tokens_out != NULL);
    for (size_t index = 0; index < sizeof first / sizeof *first; index++) {
        const ossicle_text text = {first[index], strlen(first[index])};
        if (ossicle_tokenizer_special(tokenizer_of(tokenizer), text, &token) == OSSICLE_OK && token < least)
            least = token;
    }
    DEMAND(least != UINT32_MAX);
    *num_text_tokens_out = least;
    return gptoss_status_success;
}

enum gptoss_status gptoss_tokenizer_get_num_special_tokens(gptoss_tokenizer_t tokenizer,
                                                           uint32_t *num_special_tokens_out) {
    uint32_t all = 0, text = 0;
    DEMAND(num_special_tokens_out != NULL);
    enum gptoss_status status = gptoss_tokenizer_get_num_tokens(tokenizer, &all);
    if (status == gptoss_status_success)
        status = gptoss_tokenizer_get_num_text_tokens(tokenizer, &text);
    if (status == gptoss_status_success)
        *num_special_tokens_out = all - text;
    return status;
}

enum gptoss_status gptoss_tokenizer_decode(gptoss_tokenizer_t tokenizer, uint32_t token_id, const void **token_ptr_out,
                                           size_t *token_size_out) {
    ossicle_bytes bytes = {NULL, 0};
    DEMAND(tokenizer != NULL && token_ptr_out != NULL && token_size_out != NULL);
    TRY(ossicle_tokenizer_token(tokenizer_of(tokenizer), token_id, &bytes));
    DEMAND(bytes.start != NULL);
    *token_ptr_out = bytes.start;
    *token_size_out = bytes.size;
    return gptoss_status_success;
}

enum gptoss_status gptoss_tokenizer_retain(gptoss_tokenizer_t tokenizer) {
    return gptoss_model_retain((gptoss_model_t)(void *)tokenizer);
}

enum gptoss_status gptoss_tokenizer_release(gptoss_tokenizer_t tokenizer) {
    return gptoss_model_release((gptoss_model_t)(void *)tokenizer);
}

/* Contexts. */

static enum gptoss_status open_context(gptoss_context_t context) {
    const ossicle_model *model = context->model->model;
    context->tokens = calloc(context->config.context_tokens, sizeof *context->tokens);
    if (context->tokens == NULL)
        return gptoss_status_insufficient_memory;
    TRY(ossicle_session_layout(model, &context->config, &context->layout, NULL));
    TRY(ossicle_memory_new(context->layout, &context->region));
    TRY(ossicle_session_new(model, context->region, context->layout.size, &context->config, &context->session, NULL));
    return gptoss_status_success;
}

enum gptoss_status gptoss_context_create(gptoss_model_t model, size_t context_length, size_t max_batch_tokens,
                                         gptoss_context_t *context_out) {
    DEMAND(context_out != NULL);
    *context_out = NULL;
    DEMAND(model != NULL && context_length <= model->numbers->context_tokens && max_batch_tokens <= UINT32_MAX);
    gptoss_context_t context = calloc(1, sizeof *context);
    if (context == NULL)
        return gptoss_status_insufficient_memory;
    context->references = 1;
    context->model = model;
    gptoss_model_retain(model);
    context->config.struct_size = sizeof context->config;
    context->config.context_tokens = context_length == 0 ? model->numbers->context_tokens : (uint32_t)context_length;
    context->config.batch_tokens = (uint32_t)max_batch_tokens;
    if (context->config.batch_tokens == 0)
        context->config.batch_tokens = context->config.context_tokens < 128 ? context->config.context_tokens : 128;
    enum gptoss_status status = open_context(context);
    if (status == gptoss_status_success)
        *context_out = context;
    else
        gptoss_context_release(context);
    return status;
}

enum gptoss_status gptoss_context_get_num_tokens(gptoss_context_t context, size_t *num_tokens_out) {
    DEMAND(context != NULL && num_tokens_out != NULL);
    *num_tokens_out = context->count;
    return gptoss_status_success;
}

enum gptoss_status gptoss_context_get_max_tokens(gptoss_context_t context, size_t *max_tokens_out) {
    DEMAND(context != NULL && max_tokens_out != NULL);
    *max_tokens_out = context->config.context_tokens;
    return gptoss_status_success;
}

enum gptoss_status gptoss_context_get_tokens(gptoss_context_t context, uint32_t *tokens_out, size_t max_tokens,
                                             size_t *num_tokens_out) {
    DEMAND(context != NULL && num_tokens_out != NULL && (tokens_out != NULL || max_tokens == 0));
    const size_t fitting = context->count < max_tokens ? context->count : max_tokens;
    if (fitting > 0)
        memcpy(tokens_out, context->tokens, fitting * sizeof *tokens_out);
    *num_tokens_out = context->count;
    return gptoss_status_success;
}

enum gptoss_status gptoss_context_append_chars(gptoss_context_t context, const char *text, size_t text_length,
                                               size_t *num_tokens_out) {
    size_t appended = 0;
    DEMAND(context != NULL && (text != NULL || text_length == 0));
    const ossicle_text given = {text, text_length};
    TRY(ossicle_tokenizer_encode(context->model->tokenizer, given, OSSICLE_SPECIALS_NONE,
                                 context->tokens + context->count, context->config.context_tokens - context->count,
                                 &appended));
    context->count += appended;
    if (num_tokens_out != NULL)
        *num_tokens_out = appended;
    return gptoss_status_success;
}

enum gptoss_status gptoss_context_append_tokens(gptoss_context_t context, size_t num_tokens, const uint32_t *tokens) {
    DEMAND(context != NULL && (tokens != NULL || num_tokens == 0));
    for (size_t index = 0; index < num_tokens; index++)
        DEMAND(tokens[index] < context->model->numbers->vocabulary);
    if (num_tokens > context->config.context_tokens - context->count)
        return gptoss_status_context_overflow;
    if (num_tokens > 0)
        memcpy(context->tokens + context->count, tokens, num_tokens * sizeof *tokens);
    context->count += num_tokens;
    return gptoss_status_success;
}

enum gptoss_status gptoss_context_reset(gptoss_context_t context) {
    DEMAND(context != NULL);
    TRY(ossicle_session_rewind(context->session, 0, NULL));
    context->count = 0;
    return gptoss_status_success;
}

enum gptoss_status gptoss_context_process(gptoss_context_t context) {
    uint32_t position = 0;
    DEMAND(context != NULL);
    TRY(ossicle_session_position(context->session, &position));
    while (position < context->count) {
        size_t batch = context->count - position;
        if (batch > context->config.batch_tokens)
            batch = context->config.batch_tokens;
        const uint32_t logits = position + batch == context->count ? OSSICLE_LOGITS_LAST : OSSICLE_LOGITS_NONE;
        TRY(ossicle_session_start(context->session, context->tokens + position, batch, logits, NULL));
        TRY(ossicle_session_step(context->session, &context->model->host, UINT64_MAX, NULL));
        position += (uint32_t)batch;
    }
    return gptoss_status_success;
}

static enum gptoss_status draw(gptoss_context_t context, ossicle_sampler *sampler, uint32_t *token) {
    const float *logits = NULL;
    size_t count = 0;
    enum gptoss_status status = gptoss_context_process(context);
    if (status != gptoss_status_success)
        return status;
    TRY(ossicle_session_logits(context->session, &logits, &count));
    TRY(ossicle_sampler_sample(sampler, logits, count, NULL, 0, token, NULL));
    return gptoss_context_append_tokens(context, 1, token);
}

static int ends(gptoss_context_t context, uint32_t token) {
    static const char *const names[] = {"<|return|>", "<|call|>", "<|end|>", "<|endoftext|>"};
    for (size_t index = 0; index < sizeof names / sizeof *names; index++) {
        const ossicle_text name = {names[index], strlen(names[index])};
        uint32_t end = 0;
        if (ossicle_tokenizer_special(context->model->tokenizer, name, &end) == OSSICLE_OK && end == token)
            return 1;
    }
    return 0;
}

enum gptoss_status gptoss_context_sample(gptoss_context_t context, float temperature, uint64_t seed, size_t max_tokens,
                                         uint32_t *tokens_out, size_t *num_tokens_out) {
    DEMAND(context != NULL && tokens_out != NULL && num_tokens_out != NULL && temperature >= 0.0f);
    *num_tokens_out = 0;
    if (context->count == 0)
        return gptoss_status_invalid_state;
    ossicle_sampler_config config = {
        .struct_size = sizeof config, .greedy = temperature == 0.0f, .temperature = temperature};
    /* One seed for the whole text, and other random numbers for each call. */
    config.seed = seed + context->count;
    ossicle_layout layout;
    ossicle_sampler *sampler = NULL;
    void *region = NULL;
    TRY(ossicle_sampler_layout(&config, &layout, NULL));
    TRY(ossicle_memory_new(layout, &region));
    enum gptoss_status status = status_of(ossicle_sampler_new(region, layout.size, &config, &sampler, NULL));
    while (status == gptoss_status_success && *num_tokens_out < max_tokens) {
        uint32_t token = 0;
        status = draw(context, sampler, &token);
        if (status == gptoss_status_success) {
            tokens_out[(*num_tokens_out)++] = token;
            if (ends(context, token))
                break;
        }
    }
    ossicle_memory_free(region, layout);
    return status;
}

enum gptoss_status gptoss_context_retain(gptoss_context_t context) {
    DEMAND(context != NULL);
    context->references++;
    return gptoss_status_success;
}

enum gptoss_status gptoss_context_release(gptoss_context_t context) {
    if (context != NULL && --context->references == 0) {
        ossicle_memory_free(context->region, context->layout);
        free(context->tokens);
        gptoss_model_release(context->model);
        free(context);
    }
    return gptoss_status_success;
}
