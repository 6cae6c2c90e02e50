"""Does a host's audio go on for hours: nothing lost, nothing leaked, whatever comes and goes?"""
