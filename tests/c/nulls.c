/* Every function, with nothing but nulls, and with a null in place of each result: nulls MODEL. */
#define _POSIX_C_SOURCE 200809L
#include "check.h"

#define REFUSED(call) CHECK((call) == OSSICLE_ERROR_ARGUMENT)

static void nothing_at_all(void) {
    const ossicle_text text = {NULL, 0};
    const ossicle_layout layout = {0, 0};
    CHECK(ossicle_version_number() > 0 && ossicle_version_string() != NULL);
    CHECK(ossicle_status_text(INT32_MIN) != NULL && ossicle_problem_text(UINT32_MAX) != NULL);
    REFUSED(ossicle_file_read(NULL, NULL, 0, NULL, NULL));
    REFUSED(ossicle_file_read_head(NULL, NULL, 0, NULL, NULL));
    REFUSED(ossicle_model_layout(NULL, NULL, NULL));
    REFUSED(ossicle_model_new(NULL, 0, NULL, NULL, NULL));
    REFUSED(ossicle_model_numbers_of(NULL, NULL));
    REFUSED(ossicle_model_check_values(NULL, NULL));
    REFUSED(ossicle_kernels_name(0, NULL));
    REFUSED(ossicle_tokenizer_layout(NULL, NULL, NULL));
    REFUSED(ossicle_tokenizer_new(NULL, 0, NULL, NULL, NULL));
    REFUSED(ossicle_tokenizer_vocabulary(NULL, NULL));
    REFUSED(ossicle_tokenizer_encode(NULL, text, 0, NULL, 0, NULL));
    REFUSED(ossicle_tokenizer_decode(NULL, NULL, 0, NULL, 0, NULL));
    REFUSED(ossicle_tokenizer_token(NULL, 0, NULL));
    REFUSED(ossicle_tokenizer_special(NULL, text, NULL));
    REFUSED(ossicle_tokenizer_save(NULL, NULL, 0, NULL));
    REFUSED(ossicle_session_layout(NULL, NULL, NULL, NULL));
    REFUSED(ossicle_session_new(NULL, NULL, 0, NULL, NULL, NULL));
    REFUSED(ossicle_session_start(NULL, NULL, 0, 0, NULL));
    REFUSED(ossicle_session_step(NULL, NULL, 0, NULL));
    REFUSED(ossicle_session_cancel(NULL));
    REFUSED(ossicle_session_rewind(NULL, 0, NULL));
    REFUSED(ossicle_session_save(NULL, NULL, 0, NULL));
    REFUSED(ossicle_session_restore(NULL, (ossicle_bytes){NULL, 0}, NULL));
    REFUSED(ossicle_session_fork(NULL, NULL, NULL));
    REFUSED(ossicle_session_position(NULL, NULL));
    REFUSED(ossicle_session_logits(NULL, NULL, NULL));
    REFUSED(ossicle_adapter_layout(NULL, NULL, NULL, NULL));
    REFUSED(ossicle_adapter_new(NULL, NULL, 0, NULL, NULL, NULL));
    REFUSED(ossicle_adapter_rank(NULL, NULL));
    REFUSED(ossicle_session_adapt(NULL, NULL, 0, NULL));
    REFUSED(ossicle_generation_adapt(NULL, NULL, 0, NULL));
    REFUSED(ossicle_sampler_layout(NULL, NULL, NULL));
    REFUSED(ossicle_sampler_new(NULL, 0, NULL, NULL, NULL));
    REFUSED(ossicle_sampler_sample(NULL, NULL, 0, NULL, 0, NULL, NULL));
    REFUSED(ossicle_log_probabilities(NULL, 0, NULL, 0, NULL));
    REFUSED(ossicle_harmony_render(NULL, NULL, 0, NULL, NULL, 0, NULL, 0, NULL, NULL));
    REFUSED(ossicle_parser_layout(NULL));
    REFUSED(ossicle_parser_new(NULL, NULL, 0, 0, NULL, NULL));
    REFUSED(ossicle_parser_push(NULL, NULL, 0, NULL));
    REFUSED(ossicle_parser_finish(NULL));
    REFUSED(ossicle_parser_event(NULL, NULL));
    REFUSED(ossicle_generation_layout(NULL, NULL, NULL, NULL, NULL));
    REFUSED(ossicle_generation_new(NULL, NULL, NULL, 0, NULL, NULL, NULL));
    REFUSED(ossicle_generation_append(NULL, NULL, 0, NULL));
    REFUSED(ossicle_generation_replace(NULL, NULL, 0, NULL));
    REFUSED(ossicle_generation_save(NULL, NULL, 0, NULL));
    REFUSED(ossicle_generation_restore(NULL, (ossicle_bytes){NULL, 0}, NULL));
    REFUSED(ossicle_generation_fork(NULL, NULL, NULL));
    REFUSED(ossicle_generation_rewind(NULL, 0, NULL));
    REFUSED(ossicle_generation_messages(NULL, NULL));
    REFUSED(ossicle_generation_tokens(NULL, NULL, NULL));
    REFUSED(ossicle_generation_position(NULL, NULL));
    REFUSED(ossicle_turn_layout(NULL, NULL, NULL));
    REFUSED(ossicle_turn_new(NULL, NULL, 0, NULL, NULL, NULL));
    REFUSED(ossicle_turn_step(NULL, NULL, 0, NULL));
    REFUSED(ossicle_turn_event(NULL, NULL));
    REFUSED(ossicle_turn_next(NULL, NULL, NULL, NULL));
    REFUSED(ossicle_turn_run(NULL, NULL, NULL, NULL, NULL));
    REFUSED(ossicle_turn_cancel(NULL));
    REFUSED(ossicle_token_index_layout(NULL, NULL, NULL));
    REFUSED(ossicle_token_index_new(NULL, NULL, 0, NULL, NULL));
    REFUSED(ossicle_schema_layout(NULL, NULL, NULL, NULL));
    REFUSED(ossicle_schema_new(NULL, NULL, 0, NULL, NULL, NULL));
    REFUSED(ossicle_schema_warning(NULL, 0, NULL));
    REFUSED(ossicle_memory_new(layout, NULL));
    REFUSED(ossicle_memory_free(NULL, layout));
    REFUSED(ossicle_threads_open(1, NULL));
    REFUSED(ossicle_threads_lend(NULL, NULL));
    REFUSED(ossicle_checkpoint_open(NULL, NULL, NULL));
    REFUSED(ossicle_checkpoint_open_descriptor(0, NULL, NULL));
    REFUSED(ossicle_checkpoint_model(NULL, NULL));
    REFUSED(ossicle_checkpoint_tokenizer(NULL, NULL));
    REFUSED(ossicle_vocabulary_index(NULL));
    REFUSED(ossicle_generation_append_json(NULL, text, NULL));
    REFUSED(ossicle_chat_open(NULL, NULL, NULL, NULL));
    REFUSED(ossicle_chat_ask(NULL, text, NULL, NULL));
    REFUSED(ossicle_chat_next(NULL, NULL, NULL));
    REFUSED(ossicle_chat_cancel(NULL));
    REFUSED(ossicle_chat_parts(NULL, NULL, NULL, NULL));
    REFUSED(ossicle_chat_tokenizer(NULL, NULL));
    REFUSED(ossicle_chat_model(NULL, NULL));
    REFUSED(ossicle_chat_lend(NULL, NULL, NULL));
    /* Closing what is not there is allowed, as with free. */
    CHECK(ossicle_threads_close(NULL) == OSSICLE_OK);
    CHECK(ossicle_checkpoint_close(NULL) == OSSICLE_OK);
    CHECK(ossicle_chat_close(NULL) == OSSICLE_OK);
}

/* Good objects, and nowhere to put what is asked for. */
static void nowhere_to_go(ossicle_bytes file) {
    uint32_t token = 1;
    size_t size = 0;
    engine engine = engine_with_session(file);
    REFUSED(ossicle_model_numbers_of(engine.model, NULL));
    REFUSED(ossicle_tokenizer_vocabulary(engine.tokenizer, NULL));
    REFUSED(ossicle_tokenizer_encode(engine.tokenizer, text_of("a"), 0, &token, 1, NULL));
    REFUSED(ossicle_tokenizer_encode(engine.tokenizer, text_of("a"), 0, NULL, 1, &size));
    REFUSED(ossicle_tokenizer_decode(engine.tokenizer, &token, 1, NULL, 0, NULL));
    REFUSED(ossicle_tokenizer_decode(engine.tokenizer, NULL, 1, NULL, 0, &size));
    REFUSED(ossicle_tokenizer_token(engine.tokenizer, 1, NULL));
    REFUSED(ossicle_tokenizer_special(engine.tokenizer, text_of("<|end|>"), NULL));
    REFUSED(ossicle_tokenizer_save(engine.tokenizer, NULL, 0, NULL));
    REFUSED(ossicle_session_layout(engine.model, NULL, NULL, &error));
    REFUSED(ossicle_session_new(engine.model, NULL, 0, NULL, NULL, &error));
    REFUSED(ossicle_session_position(engine.session, NULL));
    REFUSED(ossicle_session_logits(engine.session, NULL, &size));
    REFUSED(ossicle_session_fork(engine.session, NULL, &error));
    REFUSED(ossicle_generation_layout(engine.session, engine.tokenizer, NULL, NULL, &error));
    REFUSED(ossicle_generation_layout(engine.session, NULL, NULL, &(ossicle_layout){0}, &error));
    engine_end(&engine);

    engine = engine_with_generation(file);
    ossicle_turn_config config = turn_config();
    ossicle_turn *turn = turn_of(&engine, &config);
    const uint32_t *tokens = NULL;
    REFUSED(ossicle_generation_tokens(engine.generation, &tokens, NULL));
    REFUSED(ossicle_generation_tokens(engine.generation, NULL, &size));
    REFUSED(ossicle_generation_position(engine.generation, NULL));
    REFUSED(ossicle_generation_messages(engine.generation, NULL));
    REFUSED(ossicle_generation_fork(engine.generation, NULL, &error));
    REFUSED(ossicle_turn_new(engine.generation, NULL, 0, NULL, NULL, &error));
    REFUSED(ossicle_turn_event(turn, NULL));
    REFUSED(ossicle_turn_next(turn, NULL, NULL, &error));
    /* None of it did anything. */
    const ossicle_event *event = NULL;
    CHECK(ossicle_turn_next(turn, NULL, &event, &error) == OSSICLE_MORE && event != NULL);
    CHECK(size == 0 && token == 1 && tokens == NULL);
    engine_end(&engine);
}

int main(int argc, char **argv) {
    CHECK(argc == 2);
    ossicle_bytes file = file_at(argv[1]);
    nothing_at_all();
    nowhere_to_go(file);
    free((void *)(uintptr_t)file.start);
    return 0;
}
