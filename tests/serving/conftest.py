from single_thread import one_thread as one_thread  # a fixture for all tests of this folder
